//! The worker's circuit breakers, one for each store, shared by all its copies: while one is open nothing new starts, and
//! a probe finds out when its store is back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nightferry_core::context::Context;
use nightferry_core::store::StoreError;
use nightferry_core::tiering::breaker::Breaker;

/// See the module. Clones are the same breakers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<BTreeMap<String, Breaker>>>);

impl Gate {
    fn with<T>(&self, act: impl FnOnce(&mut BTreeMap<String, Breaker>) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn of<T>(&self, store: &str, act: impl FnOnce(&mut Breaker) -> T) -> T {
        self.with(|breakers| act(breakers.entry(store.to_owned()).or_default()))
    }

    /// Something worked with this store.
    pub(crate) fn succeeded(&self, store: &str) {
        self.with(|breakers| breakers.remove(store));
    }

    /// Counts an outage, and asks the store whether it is one: a few files must not lose all their attempts before
    /// enough failures came together. Answers whether the store counts as down.
    pub(crate) async fn is_down(&self, context: &Context, error: &StoreError) -> bool {
        let name = error.store().as_str();
        if self.of(name, |breaker| breaker.failed(Instant::now())) {
            return true;
        }
        let Some(store) = context.stores.get(name) else { return false };
        match store.check().await {
            Err(error) if error.is_outage() => {
                tracing::warn!(target: "nightferry::sync", %error, "a store is out of order, the run waits");
                self.of(name, |breaker| breaker.open(Instant::now()));
                true
            }
            _ => false,
        }
    }

    /// Whether any store counts as down.
    pub(crate) fn is_open(&self) -> bool {
        self.with(|breakers| breakers.values().any(Breaker::is_open))
    }

    /// The stores that count as down.
    pub(crate) fn down(&self) -> Vec<String> {
        self.with(|breakers| {
            breakers.iter().filter(|(_, breaker)| breaker.is_open()).map(|(store, _)| store.clone()).collect()
        })
    }

    /// While a breaker is open: the time until the next probe is due, or zero.
    pub(crate) fn probe_in(&self) -> Option<Duration> {
        let next = self.with(|breakers| breakers.values().filter_map(Breaker::probe_at).min());
        next.map(|at| at.saturating_duration_since(Instant::now()))
    }

    /// Asks the stores whose probe is due whether they are well, and closes the breakers of those that are.
    pub(crate) async fn probe(&self, context: &Context) {
        let now = Instant::now();
        for name in self.down() {
            if !self.of(&name, |breaker| breaker.probe_at().is_some_and(|at| at <= now)) {
                continue;
            }
            let Some(store) = context.stores.get(&name) else {
                self.succeeded(&name);
                continue;
            };
            match store.check().await {
                Ok(()) => {
                    tracing::info!(target: "nightferry::sync", store = name, "the store answers again, the run goes on");
                    self.succeeded(&name);
                }
                Err(error) => {
                    tracing::warn!(target: "nightferry::sync", %error, "a store is still in trouble, the run waits");
                    self.of(&name, |breaker| breaker.probe_failed(Instant::now()));
                }
            }
        }
    }
}
