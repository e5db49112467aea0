//! Which stores are well, as one process knows it. Learnt from checks and from what uploads, downloads and copies meet;
//! believed only after several failures, or answers, in a row, so that a single hiccup moves nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::Notify;

use crate::config::HealthConfig;
use crate::store::{Store, StoreError};

/// The health of every store. Clones are the same.
#[derive(Debug, Clone)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    failures: u32,
    successes: u32,
    known: Mutex<BTreeMap<String, StoreHealth>>,
    /// Rung when a store comes into doubt.
    doubt: Notify,
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
    /// Looks in a row that contradict `up`.
    contrary: u32,
}

impl Health {
    /// Every store counts as up until it is seen not to be.
    pub fn new(config: &HealthConfig) -> Self {
        Self(Arc::new(Inner {
            failures: config.failures.max(1),
            successes: config.successes.max(1),
            known: Mutex::default(),
            doubt: Notify::new(),
        }))
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<String, StoreHealth>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the store counts as up.
    pub fn is_up(&self, store: &str) -> bool {
        self.known().get(store).is_none_or(|health| health.up)
    }

    /// Whether the store counts as up and nothing speaks against it: what can wait is not done with one in doubt.
    pub fn is_well(&self, store: &str) -> bool {
        self.known().get(store).is_none_or(|health| health.up && health.contrary == 0)
    }

    /// What is known of the store; none when nobody has looked yet.
    pub fn of(&self, store: &str) -> Option<StoreHealth> {
        self.known().get(store).cloned()
    }

    /// The store answered.
    pub fn answered(&self, store: &str, now: DateTime<Utc>, latency: Option<Duration>) {
        self.saw(store, now, true, latency, None);
    }

    /// Something went wrong with a store. Counts only where the store itself is to blame, and not the request.
    pub fn failed(&self, error: &StoreError, now: DateTime<Utc>) {
        if error.is_outage() {
            self.saw(error.store().as_str(), now, false, None, Some(error.to_string()));
        }
    }

    /// What a check of the store, or its use, has shown.
    pub(crate) fn saw(
        &self,
        store: &str,
        now: DateTime<Utc>,
        well: bool,
        latency: Option<Duration>,
        error: Option<String>,
    ) {
        let mut known = self.known();
        let health = known.entry(store.to_owned()).or_insert_with(|| StoreHealth {
            up: true,
            since: now,
            latency: None,
            last_error: None,
            contrary: 0,
        });
        health.last_error = error;
        if latency.is_some() || !well {
            health.latency = latency;
        }
        if well == health.up {
            health.contrary = 0;
            return;
        }
        health.contrary = health.contrary.saturating_add(1);
        let enough = if health.up { self.0.failures } else { self.0.successes };
        if health.contrary >= enough {
            (health.up, health.since, health.contrary) = (well, now, 0);
            let error = health.last_error.as_deref();
            if well {
                tracing::info!(store, "the store is up again");
            } else {
                tracing::warn!(store, error, "the store counts as down");
            }
        }
        drop(known);
        self.0.doubt.notify_one();
    }

    /// Of these stores those that are up, in their order, and after them the others.
    pub fn up_first<'s>(&self, mut stores: Vec<&'s Store>) -> Vec<&'s Store> {
        stores.sort_by_key(|store| !self.is_up(store.name().as_str()));
        stores
    }

    /// Whether any store is down or suspect.
    pub(crate) fn is_in_doubt(&self) -> bool {
        self.known().values().any(|health| health.contrary > 0 || !health.up)
    }

    /// Ends when a store has become suspect.
    pub(crate) async fn doubted(&self) {
        self.0.doubt.notified().await;
    }

    /// What is known of every store that was seen.
    pub(crate) fn all(&self) -> BTreeMap<String, StoreHealth> {
        self.known().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(failures: u32, successes: u32) -> Health {
        Health::new(&HealthConfig { interval: Duration::from_secs(1), failures, successes })
    }

    fn down(health: &Health) {
        health.saw("a", Utc::now(), false, None, Some("no".to_owned()));
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
    fn doubt_begins_with_the_first_failure_and_ends_with_the_last_one() {
        let health = health(2, 1);
        assert!(!health.is_in_doubt());
        down(&health);
        assert!(health.is_in_doubt() && health.is_up("a") && !health.is_well("a"));
        down(&health);
        assert!(health.is_in_doubt() && !health.is_up("a"));
        health.answered("a", Utc::now(), None);
        assert!(!health.is_in_doubt() && health.is_well("a"));
    }
}
