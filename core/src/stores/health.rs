//! Which stores are usable, as seen by this process: the only source of that information. Stores are probed
//! periodically, and the results of uploads, downloads and copies count as well. The state changes only after several
//! consecutive failures or successes, so a single error has no effect.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::identity::Identities;
use super::pauses::{Paused, Pauses};
use crate::config::HealthConfig;
use crate::ids::ObjectId;
use crate::retry;
use crate::store::{Condition, Store, StoreError};

/// A store that is not healthy is probed at least this many times as often.
const SOONER: u32 = 5;
/// Minimum and maximum pause before the next probe.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Whether a store is usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usability {
    /// The last result was a success.
    Healthy,
    /// The store has failed, but not often enough to be unhealthy, or its identity is in doubt, or it is paused because
    /// of a condition that does not only concern writes. Work that can wait does not use it.
    Suspect,
    /// The store is down until enough consecutive successes.
    Unhealthy,
}

/// The health of all stores. Clones share it.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    interval: Duration,
    failures: u32,
    successes: u32,
    known: Mutex<BTreeMap<String, StoreHealth>>,
    identities: Identities,
    /// Notified when a store is no longer healthy.
    suspected: Notify,
    /// Notified when copies no longer have to wait for a store.
    recovered: Notify,
    /// Stores that are paused because of a condition.
    pauses: Pauses,
}

/// The state of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    /// Whether it is healthy.
    pub up: bool,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Latency of the last check; `None` while it does not respond.
    pub latency: Option<Duration>,
    /// The last error; `None` once it responds.
    pub last_error: Option<String>,
    /// Number of consecutive results that contradict `up`.
    contrary: u32,
    /// Whether the last failure was a refusal: the store responds but rejects the request.
    pub(crate) refused: bool,
    /// Probes that became due since the last success.
    probes: u32,
    /// When the next probe is due; `None` while the store is healthy.
    probe_at: Option<Instant>,
}

impl StoreHealth {
    fn usability(&self) -> Usability {
        match (self.up, self.contrary) {
            (true, 0) => Usability::Healthy,
            (true, _) => Usability::Suspect,
            (false, _) => Usability::Unhealthy,
        }
    }

    /// Whether the store is down and does not respond.
    pub(crate) fn is_out(&self) -> bool {
        !self.up && !self.refused
    }

    /// Schedules the next probe. Failures before a probe is due change nothing, because many can arrive at once.
    fn schedule_probe(&mut self, answered: bool, max_pause: Duration) {
        let now = Instant::now();
        if answered {
            (self.probes, self.probe_at) = (0, None);
        }
        if self.usability() != Usability::Healthy && self.probe_at.is_none_or(|at| at <= now) {
            let pause = retry::interval(self.probes, MIN_PAUSE, MAX_PAUSE).min(max_pause);
            self.probe_at = Some(now + pause);
            self.probes = self.probes.saturating_add(u32::from(!answered));
        }
    }
}

impl Health {
    /// All stores are healthy until proven otherwise.
    pub fn new(config: &HealthConfig) -> Self {
        Self(Arc::new(Inner {
            interval: config.interval,
            failures: config.failures.max(1),
            successes: config.successes.max(1),
            known: Mutex::default(),
            identities: Identities::default(),
            suspected: Notify::new(),
            recovered: Notify::new(),
            pauses: Pauses::default(),
        }))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, StoreHealth>> {
        self.0.known.lock()
    }

    /// The identities of the stores. One in doubt makes its store suspect.
    pub fn identities(&self) -> &Identities {
        &self.0.identities
    }

    /// The usability of the store.
    pub fn usability(&self, store: &str) -> Usability {
        let is_suspect = || self.identities().is_in_doubt(store) || self.0.pauses.is_unusable(store);
        match self.responsiveness(store) {
            Usability::Healthy if is_suspect() => Usability::Suspect,
            usability => usability,
        }
    }

    /// The usability of the store by its responses, whatever its identity is and whether it is paused.
    fn responsiveness(&self, store: &str) -> Usability {
        self.known().get(store).map_or(Usability::Healthy, StoreHealth::usability)
    }

    /// Whether the last response of the store was a success, whatever its identity is and whether it is paused.
    pub(crate) fn responds(&self, store: &str) -> bool {
        self.responsiveness(store) == Usability::Healthy
    }

    /// Whether the store is healthy.
    pub fn is_healthy(&self, store: &str) -> bool {
        self.usability(store) == Usability::Healthy
    }

    /// Whether the store is up: healthy or suspect.
    pub fn is_up(&self, store: &str) -> bool {
        self.usability(store) != Usability::Unhealthy
    }

    /// The stores to which no copy is started: those that are down and do not respond, and those that are paused. A
    /// store that responds with a refusal is not included, so that a run receives the refusal and ends with its reason.
    pub fn out(&self) -> Vec<String> {
        let mut out = [self.unreadable(), self.full()].concat();
        out.sort_unstable();
        out.dedup();
        out
    }

    /// The stores from which no copy is started: those of [`Self::out`], except full ones, which still serve reads.
    pub fn unreadable(&self) -> Vec<String> {
        let known = self.known();
        let mut out: Vec<String> =
            known.iter().filter(|(_, health)| health.is_out()).map(|(store, _)| store.clone()).collect();
        drop(known);
        out.extend(self.0.pauses.unusable());
        out.sort_unstable();
        out.dedup();
        out
    }

    /// The stores that are full.
    pub fn full(&self) -> Vec<String> {
        self.0.pauses.full()
    }

    /// The stores that are full or redirect, and accepted nothing for at least this time, with the reason.
    pub(crate) fn blocked(&self, now: DateTime<Utc>, least: Duration) -> Vec<(String, String)> {
        self.0.pauses.blocked(now, least)
    }

    /// Whether the store is up and accepts new data: it is not paused, because it is full, for example.
    pub fn accepts_writes(&self, store: &str) -> bool {
        self.is_up(store) && !self.paused().contains_key(store)
    }

    /// The stores that are paused because of a condition.
    pub fn paused(&self) -> BTreeMap<String, Paused> {
        self.0.pauses.all()
    }

    /// Pauses the store of an error because of a condition of the whole store. Returns the time until the pause ends.
    pub fn pause(&self, error: &StoreError, condition: Condition, now: DateTime<Utc>) -> Duration {
        let (store, reason) = (error.store().as_str(), error.to_string());
        let is_new = !self.paused().contains_key(store);
        let least = error.retry_after().unwrap_or_default();
        let pause = self.0.pauses.pause((store, error.is_write()), condition, now, &reason, least);
        if is_new {
            metrics::counter!("nightferry_store_pauses_total", "store" => store.to_owned(), "condition" => condition.as_str())
                .increment(1);
            tracing::warn!(store, %condition, ?pause, error = reason, "the store is paused; copies wait and lose no attempt");
        }
        pause
    }

    /// Records that the copy of an object met a condition of the store of this error. Returns whether the store is to
    /// blame: it is not if it served the copies of other objects each time.
    pub fn is_to_blame(&self, error: &StoreError, object: ObjectId) -> bool {
        self.0.pauses.strike((error.store().as_str(), error.is_write()), object)
    }

    /// Records a successful copy from one store, if it is known, to another.
    pub fn copied(&self, from: Option<&str>, to: &str, now: DateTime<Utc>) {
        for (store, writes) in [(Some(to), true), (from, false)] {
            let Some(store) = store else { continue };
            self.0.pauses.served((store, writes));
            self.answered(store, now, None);
        }
    }

    /// Records a successful upload to a store.
    pub(crate) fn received(&self, store: &str, now: DateTime<Utc>) {
        self.0.pauses.served((store, true));
        self.answered(store, now, None);
    }

    /// Ends all pauses now.
    pub fn end_pauses(&self) {
        self.0.pauses.end_all();
    }

    /// Waits until copies no longer have to wait for some store.
    pub async fn recovered(&self) {
        self.0.recovered.notified().await;
    }

    /// The state of the store; `None` if it has not been checked yet.
    pub fn of(&self, store: &str) -> Option<StoreHealth> {
        self.known().get(store).cloned()
    }

    /// Records a success: of a check, with its latency, or of a use.
    pub fn answered(&self, store: &str, now: DateTime<Utc>, latency: Option<Duration>) {
        self.saw(store, now, latency, None);
    }

    /// Records a failure. Counts only if the store is at fault, not the request. A store that is full is not down: it is
    /// paused for writes.
    pub fn failed(&self, error: &StoreError, now: DateTime<Utc>) {
        if error.condition() == Some(Condition::Quota) {
            self.pause(error, Condition::Quota, now);
        } else if error.is_outage() {
            self.saw(
                error.store().as_str(),
                now,
                None,
                Some(Failure { error: error.to_string(), refused: false }),
            );
        }
    }

    /// Result of a check or a use of the store.
    pub(crate) fn saw(
        &self,
        store: &str,
        now: DateTime<Utc>,
        latency: Option<Duration>,
        failure: Option<Failure>,
    ) {
        let mut known = self.known();
        let health = known.entry(store.to_owned()).or_insert_with(|| StoreHealth {
            up: true,
            since: now,
            latency: None,
            last_error: None,
            contrary: 0,
            refused: false,
            probes: 0,
            probe_at: None,
        });
        let (answered, was_out) = (failure.is_none(), health.is_out());
        if latency.is_some() || !answered {
            health.latency = latency;
        }
        health.refused = failure.as_ref().map_or(health.refused, |failure| failure.refused);
        health.last_error = failure.map(|failure| failure.error);
        if answered == health.up {
            health.contrary = 0;
        } else {
            health.contrary = health.contrary.saturating_add(1);
        }
        let enough = if health.up { self.0.failures } else { self.0.successes };
        if health.contrary >= enough {
            (health.up, health.since, health.contrary) = (answered, now, 0);
            let error = health.last_error.as_deref();
            if answered {
                tracing::info!(store, "the store is up again");
            } else {
                tracing::warn!(store, error, "the store is down");
            }
        }
        health.schedule_probe(answered, self.0.interval / SOONER);
        let is_healthy = health.usability() == Usability::Healthy;
        let has_recovered = was_out && !health.is_out();
        drop(known);
        if has_recovered {
            self.0.recovered.notify_one();
        }
        if !is_healthy {
            self.0.suspected.notify_one();
        }
    }

    /// Sorts stores: those that are up first, otherwise in the given order.
    pub fn up_first<'s>(&self, mut stores: Vec<&'s Store>) -> Vec<&'s Store> {
        stores.sort_by_key(|store| !self.is_up(store.name().as_str()));
        stores
    }

    /// Sorts stores for new data: those that accept it, then those that are up, then the others; otherwise in the given
    /// order.
    pub fn accepting_first<'s>(&self, mut stores: Vec<&'s Store>) -> Vec<&'s Store> {
        stores.sort_by_key(|store| {
            let name = store.name().as_str();
            (!self.accepts_writes(name), !self.is_up(name))
        });
        stores
    }

    /// Completes when a store has become suspect.
    pub(crate) async fn becomes_suspect(&self) {
        self.0.suspected.notified().await;
    }

    /// Health of every store seen so far.
    pub(crate) fn all(&self) -> BTreeMap<String, StoreHealth> {
        self.known().clone()
    }

    /// When the next probe of a store that is not healthy is due.
    pub(crate) fn next_probe(&self) -> Option<Instant> {
        self.known().values().filter_map(|health| health.probe_at).min()
    }

    pub(crate) fn is_probe_due(&self, store: &str, now: Instant) -> bool {
        self.known().get(store).and_then(|health| health.probe_at).is_some_and(|at| at <= now)
    }
}

/// A failure of a store.
pub(crate) struct Failure {
    /// As text.
    pub(crate) error: String,
    /// Whether the store responds but rejects the request.
    pub(crate) refused: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stores::Identity;

    fn health(failures: u32, successes: u32) -> Health {
        let interval = Duration::from_secs(1);
        Health::new(&HealthConfig { interval, failures, successes, canary_interval: None })
    }

    fn down(health: &Health) {
        fail(health, false);
    }

    fn fail(health: &Health, refused: bool) {
        health.saw("a", Utc::now(), None, Some(Failure { error: "no".to_owned(), refused }));
    }

    #[test]
    fn a_store_is_down_after_consecutive_failures_and_up_after_consecutive_successes() {
        let health = health(3, 2);
        let up = || health.answered("a", Utc::now(), None);
        assert!(health.is_up("a"), "the initial state");
        down(&health);
        down(&health);
        up();
        down(&health);
        down(&health);
        assert!(health.is_up("a"), "not in a row");
        down(&health);
        assert!(!health.is_up("a"));
        up();
        down(&health);
        up();
        assert!(!health.is_up("a"), "not in a row");
        up();
        assert!(health.is_up("a"));
        assert!(health.is_up("b"), "an unknown store");
    }

    #[test]
    fn a_store_is_suspect_after_the_first_failure_and_healthy_after_the_last_success() {
        let health = health(2, 1);
        assert_eq!(health.usability("a"), Usability::Healthy);
        down(&health);
        assert_eq!(health.usability("a"), Usability::Suspect);
        assert!(health.next_probe().is_some() && health.out().is_empty());
        down(&health);
        assert_eq!(health.usability("a"), Usability::Unhealthy);
        health.answered("a", Utc::now(), None);
        assert_eq!(health.usability("a"), Usability::Healthy);
        assert!(health.next_probe().is_none());
    }

    #[test]
    fn a_store_whose_identity_is_in_doubt_is_suspect_and_not_probed_more_often() {
        let health = health(2, 1);
        health.identities().saw("a", &Identity::Missing { recorded: uuid::Uuid::nil() });
        health.answered("a", Utc::now(), None);
        assert_eq!(health.usability("a"), Usability::Suspect);
        assert!(health.is_up("a") && health.responds("a") && health.next_probe().is_none());
        down(&health);
        down(&health);
        assert_eq!(health.usability("a"), Usability::Unhealthy);
        health.identities().saw("a", &Identity::Proven(uuid::Uuid::nil()));
        health.answered("a", Utc::now(), None);
        assert_eq!(health.usability("a"), Usability::Healthy);
    }

    #[test]
    fn a_paused_store_is_suspect_unless_it_is_only_full() {
        let health = health(2, 1);
        let pause = |condition| {
            health.0.pauses.pause(("a", true), condition, Utc::now(), "no", Duration::ZERO);
        };
        pause(Condition::Quota);
        assert_eq!((health.usability("a"), health.out()), (Usability::Healthy, vec!["a".to_owned()]));
        health.end_pauses();
        pause(Condition::ClockSkew);
        assert_eq!((health.usability("a"), health.out()), (Usability::Suspect, vec!["a".to_owned()]));
        assert!(health.is_up("a") && health.responds("a"));
        health.end_pauses();
        assert!(health.is_healthy("a") && health.out().is_empty());
    }

    #[test]
    fn copies_wait_for_a_store_that_does_not_respond_but_not_for_one_that_rejects() {
        let health = health(2, 2);
        down(&health);
        fail(&health, false);
        assert_eq!(health.out(), ["a"]);
        fail(&health, true);
        assert!(health.out().is_empty() && !health.is_up("a"));
        fail(&health, false);
        health.answered("a", Utc::now(), None);
        assert_eq!(health.out(), ["a"], "one success is not enough");
        health.answered("a", Utc::now(), None);
        assert!(health.out().is_empty() && health.is_healthy("a"));
    }

    #[test]
    fn a_store_that_does_not_respond_is_probed_with_increasing_pauses() {
        let health = Health::new(&HealthConfig {
            interval: Duration::from_secs(3600),
            failures: 2,
            successes: 2,
            canary_interval: None,
        });
        let pause = || {
            health.next_probe().map(|at| at.saturating_duration_since(Instant::now()).as_secs_f64().ceil())
        };
        let pauses: Vec<_> = (0..8)
            .map(|_| {
                if let Some(known) = health.known().get_mut("a") {
                    known.probe_at = Some(Instant::now());
                }
                down(&health);
                down(&health);
                pause().unwrap()
            })
            .collect();
        assert_eq!(pauses, [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]);
        health.answered("a", Utc::now(), None);
        assert_eq!(pause(), Some(1.0), "it is probed again soon");
    }
}
