//! Which stores are usable, as one process sees them: the only notion of that. Probed every now and then and learnt from what
//! uploads, downloads and copies meet; believed only after several failures, or answers, in a row, so that a single hiccup
//! moves nothing. A store that is not healthy is probed sooner, with growing patience, until it is.
//!
//! Each process has its own view, because what one can reach another may not; it is written down for people to see.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::HealthConfig;
use crate::context::Context;
use crate::db::store_health::{self, Seen};
use crate::error::Result;
use crate::retry;
use crate::store::{Store, StoreError};

/// How long a look may take. A store that is slower than that serves nobody.
const DEADLINE: Duration = Duration::from_secs(5);
/// A store that is not healthy is probed at least so many times as often.
const SOONER: u32 = 5;
/// Bounds of the pause before it is probed again.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// Whether a store is usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usability {
    /// Nothing speaks against it.
    Healthy,
    /// It has failed, though not often enough to be believed: what can wait is not begun with it.
    Suspect,
    /// It counts as down until it has answered often enough.
    Unhealthy,
}

/// The health of every store. Clones are the same.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    interval: Duration,
    failures: u32,
    successes: u32,
    known: Mutex<BTreeMap<String, StoreHealth>>,
    /// Rung when a store is not healthy any more.
    doubt: Notify,
    /// Rung when copies need not wait for a store any more.
    recovered: Notify,
}

/// What is known of one store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreHealth {
    /// Whether it counts as up.
    pub up: bool,
    /// Since when.
    pub since: DateTime<Utc>,
    /// How long the last answer took; none while it does not answer.
    pub latency: Option<Duration>,
    /// What the last failure was; none once it answers.
    pub last_error: Option<String>,
    /// Failures or answers in a row that contradict `up`.
    contrary: u32,
    /// Whether the last failure was a refusal: it answers, but not to us.
    refused: bool,
    /// Probes that came due since the last answer.
    probes: u32,
    /// When it is to be probed again; none while it is healthy.
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

    fn is_out(&self) -> bool {
        !self.up && !self.refused
    }

    /// Failures that come before the next probe is due change nothing: many may come at once.
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
    /// Every store counts as up until it is seen not to be.
    pub fn new(config: &HealthConfig) -> Self {
        Self(Arc::new(Inner {
            interval: config.interval,
            failures: config.failures.max(1),
            successes: config.successes.max(1),
            known: Mutex::default(),
            doubt: Notify::new(),
            recovered: Notify::new(),
        }))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, StoreHealth>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store is usable.
    pub fn usability(&self, store: &str) -> Usability {
        self.known().get(store).map_or(Usability::Healthy, StoreHealth::usability)
    }

    /// Whether nothing speaks against the store.
    pub fn is_healthy(&self, store: &str) -> bool {
        self.usability(store) == Usability::Healthy
    }

    /// Whether the store counts as up: it is healthy, or suspect at most.
    pub fn is_up(&self, store: &str) -> bool {
        self.usability(store) != Usability::Unhealthy
    }

    /// The stores that no copy is begun with: they count as down, and do not answer. One that answers with a refusal is not
    /// among them, so that a run meets the refusal and ends with its reason.
    pub fn out(&self) -> Vec<String> {
        self.known().iter().filter(|(_, health)| health.is_out()).map(|(store, _)| store.clone()).collect()
    }

    /// Waits until copies need not wait for some store any more.
    pub async fn recovered(&self) {
        self.0.recovered.notified().await;
    }

    /// What is known of the store; none when nobody has looked yet.
    pub fn of(&self, store: &str) -> Option<StoreHealth> {
        self.known().get(store).cloned()
    }

    /// The store answered.
    pub fn answered(&self, store: &str, now: DateTime<Utc>, latency: Option<Duration>) {
        self.saw(store, now, latency, None);
    }

    /// Something went wrong with a store. Counts only where the store itself is to blame, and not the request.
    pub fn failed(&self, error: &StoreError, now: DateTime<Utc>) {
        if error.is_outage() {
            self.saw(
                error.store().as_str(),
                now,
                None,
                Some(Failure { error: error.to_string(), refused: false }),
            );
        }
    }

    fn saw(&self, store: &str, now: DateTime<Utc>, latency: Option<Duration>, failure: Option<Failure>) {
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
                tracing::warn!(store, error, "the store counts as down");
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
            self.0.doubt.notify_one();
        }
    }

    /// Of these stores those that are up, in their order, and after them the others.
    pub fn up_first<'s>(&self, mut stores: Vec<&'s Store>) -> Vec<&'s Store> {
        stores.sort_by_key(|store| !self.is_up(store.name().as_str()));
        stores
    }

    /// When the next store that is not healthy is to be probed.
    fn next_probe(&self) -> Option<Instant> {
        self.known().values().filter_map(|health| health.probe_at).min()
    }

    fn is_probe_due(&self, store: &str, now: Instant) -> bool {
        self.known().get(store).and_then(|health| health.probe_at).is_some_and(|at| at <= now)
    }
}

/// What speaks against a store.
struct Failure {
    error: String,
    refused: bool,
}

/// Looks once at every store, all at the same time.
pub async fn look(context: &Context) {
    join_all(context.stores.all().map(|store| look_at(context, store))).await;
}

/// Looks once at a store.
///
/// # Errors
/// Why it cannot be used, in words. Whoever breaks this off has not looked.
pub async fn look_at(context: &Context, store: &Store) -> std::result::Result<(), String> {
    let (started, name) = (Instant::now(), store.name().as_str());
    let failure = match tokio::time::timeout(DEADLINE, store.check()).await {
        Ok(Ok(())) => {
            context.health.answered(name, context.clock.now(), Some(started.elapsed()));
            return Ok(());
        }
        // Whoever cannot use it cannot serve from it: a refusal is as bad as silence.
        Ok(Err(error)) => Failure { error: error.to_string(), refused: !error.is_outage() },
        Err(_) => Failure {
            error: format!("store {name} did not answer within {} s", DEADLINE.as_secs()),
            refused: false,
        },
    };
    let error = failure.error.clone();
    context.health.saw(name, context.clock.now(), None, Some(failure));
    Err(error)
}

/// Learns from a failure of a store, and where that is an outage asks the store at once, as often as it takes to know. Returns
/// whether it is out of order: then whatever failed is not to blame.
pub async fn is_outage(context: &Context, error: &StoreError) -> bool {
    context.health.failed(error, context.clock.now());
    let Some(store) = context.stores.get(error.store().as_str()).filter(|_| error.is_outage()) else {
        return false;
    };
    let known =
        |of: fn(&StoreHealth) -> bool| context.health.known().get(store.name().as_str()).is_some_and(of);
    for _ in 0..context.config.health.failures {
        if known(StoreHealth::is_out) {
            return true;
        }
        if look_at(context, store).await.is_ok() || known(|health| health.refused) {
            return false;
        }
    }
    true
}

/// Looks at every store again and again, sooner at those that are not healthy, and writes down what it sees as `program` (`api`
/// or `worker`), until `shutdown`.
pub async fn watch(context: Context, program: &'static str, shutdown: CancellationToken) {
    let observer = Uuid::now_v7();
    let interval = context.config.health.interval;
    let mut all_at = Instant::now() + interval;
    loop {
        let next = context.health.next_probe().map_or(all_at, |at| at.min(all_at));
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep_until(next.into()) => {}
            // What is not healthy any more is looked at soon.
            () = context.health.0.doubt.notified() => continue,
        }
        let now = Instant::now();
        if now >= all_at {
            look(&context).await;
            all_at = now + interval;
        } else {
            let due =
                context.stores.all().filter(|store| context.health.is_probe_due(store.name().as_str(), now));
            join_all(due.map(|store| look_at(&context, store))).await;
        }
        if let Err(error) = write_down(&context, observer, program).await {
            tracing::debug!(%error, "the health of the stores could not be written down");
        }
    }
    let forget = async {
        let mut conn = context.db.conn().await?;
        store_health::forget(&mut conn, observer).await
    };
    if let Err(error) = forget.await {
        tracing::debug!(%error, "what this process saw of the stores goes by itself");
    }
}

async fn write_down(context: &Context, observer: Uuid, program: &str) -> Result<()> {
    let seen: Vec<Seen> = context
        .health
        .known()
        .iter()
        .map(|(store, health)| Seen {
            store: store.clone(),
            up: health.up,
            since: health.since,
            latency_ms: health.latency.map(|latency| i32::try_from(latency.as_millis()).unwrap_or(i32::MAX)),
            last_error: health.last_error.clone(),
        })
        .collect();
    let mut conn = context.db.conn().await?;
    store_health::write(&mut conn, observer, program, &seen).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(failures: u32, successes: u32) -> Health {
        Health::new(&HealthConfig { interval: Duration::from_secs(1), failures, successes })
    }

    fn down(health: &Health) {
        fail(health, false);
    }

    fn fail(health: &Health, refused: bool) {
        health.saw("a", Utc::now(), None, Some(Failure { error: "no".to_owned(), refused }));
    }

    #[test]
    fn a_store_is_down_after_enough_failures_in_a_row_and_up_after_enough_answers() {
        let health = health(3, 2);
        let up = || health.answered("a", Utc::now(), None);
        assert!(health.is_up("a"), "until it is seen not to be");
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
        assert!(health.is_up("b"), "of which nobody knows");
    }

    #[test]
    fn a_store_is_suspect_from_the_first_failure_and_healthy_with_the_last_answer() {
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
    fn copies_wait_for_a_store_that_is_silent_and_not_for_one_that_refuses() {
        let health = health(2, 2);
        down(&health);
        fail(&health, false);
        assert_eq!(health.out(), ["a"]);
        fail(&health, true);
        assert!(health.out().is_empty() && !health.is_up("a"));
        fail(&health, false);
        health.answered("a", Utc::now(), None);
        assert_eq!(health.out(), ["a"], "one answer is not enough");
        health.answered("a", Utc::now(), None);
        assert!(health.out().is_empty() && health.is_healthy("a"));
    }

    #[test]
    fn a_store_that_stays_silent_is_probed_with_growing_patience() {
        let health =
            Health::new(&HealthConfig { interval: Duration::from_secs(3600), failures: 2, successes: 2 });
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
        assert_eq!(pause(), Some(1.0), "it is asked again soon whether that lasts");
    }
}
