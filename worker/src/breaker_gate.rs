//! The worker's circuit breakers, one for each store, shared by all its copies: while one is open nothing starts that needs
//! its store, all else goes on, and a probe finds out when the store is back.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nightferry_core::context::Context;
use nightferry_core::db::replicas::Claim;
use nightferry_core::store::StoreError;
use nightferry_core::tiering::breaker::Breaker;
use tokio_util::sync::CancellationToken;

use crate::wake::Wake;

/// How often it is looked whether a probe is due.
const LOOK_EVERY: Duration = Duration::from_millis(250);

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
                tracing::warn!(target: "nightferry::sync", %error, "a store is out of order: what needs it waits");
                self.of(name, |breaker| breaker.open(Instant::now()));
                true
            }
            _ => false,
        }
    }

    /// Whether a copy cannot be made now: the store that it goes to is down, or all those that it could come from.
    pub(crate) fn blocks(&self, claim: &Claim) -> bool {
        let down = self.down();
        let is_down = |store: &String| down.contains(store);
        let mut sources = claim.sources.iter().filter(|store| **store != claim.store).peekable();
        is_down(&claim.store) || (sources.peek().is_some() && sources.all(is_down))
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

    /// Probes whatever is due until `shutdown`, beside the copies, and rings when a store is back.
    pub(crate) async fn keep_probing(self, context: Context, bells: [Wake; 2], shutdown: CancellationToken) {
        loop {
            let pause = self.probe_in().map_or(LOOK_EVERY, |due| due.min(LOOK_EVERY));
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
            if self.probe_in().is_some_and(|due| due.is_zero()) {
                let before = self.down().len();
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = self.probe(&context) => {}
                }
                if self.down().len() < before {
                    bells.iter().for_each(Wake::ring);
                }
            }
        }
    }

    /// Asks the stores whose probe is due whether they are well, and closes the breakers of those that are.
    pub(crate) async fn probe(&self, context: &Context) {
        let now = Instant::now();
        let mut due = self.down();
        due.retain(|name| self.of(name, |breaker| breaker.probe_at().is_some_and(|at| at <= now)));
        // All at once: one that does not answer keeps no other waiting.
        join_all(due.iter().map(|name| self.probe_one(context, name))).await;
    }

    async fn probe_one(&self, context: &Context, name: &str) {
        let Some(store) = context.stores.get(name) else {
            self.succeeded(name);
            return;
        };
        match store.check().await {
            Err(error) if error.is_outage() => {
                tracing::warn!(target: "nightferry::sync", %error, "a store is still in trouble, what needs it waits");
                self.of(name, |breaker| breaker.probe_failed(Instant::now()));
            }
            // A refusal is an answer: the copies meet it too, and the run ends with its reason.
            answer => {
                let refusal = answer.err().map(tracing::field::display);
                tracing::info!(target: "nightferry::sync", store = name, refusal, "the store answers again, what needs it goes on");
                self.succeeded(name);
            }
        }
    }
}
