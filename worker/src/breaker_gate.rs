//! The worker's circuit breaker, shared by all its copies: while it is open nothing new starts, and a probe finds
//! out when the stores are back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nightferry_core::context::Context;
use nightferry_core::store::StoreError;
use nightferry_core::tiering::breaker::Breaker;

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<Breaker>>);

impl Gate {
    fn with<T>(&self, act: impl FnOnce(&mut Breaker) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn succeeded(&self) {
        self.with(Breaker::succeeded);
    }

    /// Counts an outage, and asks the store whether it is one: a few files must not lose all their attempts before
    /// enough failures came together. Answers whether the stores count as down.
    pub(crate) async fn is_down(&self, context: &Context, error: &StoreError) -> bool {
        if self.with(|breaker| breaker.failed(Instant::now())) {
            return true;
        }
        let Some(store) = context.stores.get(error.store().as_str()) else { return false };
        match store.check().await {
            Err(error) if error.is_outage() => {
                tracing::warn!(target: "nightferry::sync", %error, "a store is out of order, the run waits");
                self.with(|breaker| breaker.open(Instant::now()));
                true
            }
            _ => false,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.with(|breaker| breaker.is_open())
    }

    /// While the breaker is open: the time until the next probe is due, or zero.
    pub(crate) fn probe_in(&self) -> Option<Duration> {
        self.with(|breaker| breaker.probe_at().map(|at| at.saturating_duration_since(Instant::now())))
    }

    /// Asks both stores whether they are well, and closes the breaker if they are.
    pub(crate) async fn probe(&self, context: &Context) {
        let outcome = async {
            context.stores.local()?.check().await?;
            context.stores.cloud()?.check().await?;
            Ok::<_, nightferry_core::error::Error>(())
        };
        match outcome.await {
            Ok(()) => {
                tracing::info!(target: "nightferry::sync", "the stores answer again, the run goes on");
                self.succeeded();
            }
            Err(error) => {
                tracing::warn!(target: "nightferry::sync", %error, "a store is still in trouble, the run waits");
                self.with(|breaker| breaker.probe_failed(Instant::now()));
            }
        }
    }
}
