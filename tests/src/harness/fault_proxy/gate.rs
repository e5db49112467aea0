//! A gate at which requests wait until the test opens it.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);

/// A gate: closed until [`Gate::open`], then open permanently. Clones share it.
#[derive(Debug, Clone)]
pub struct Gate {
    arrived: watch::Sender<usize>,
    open: watch::Sender<bool>,
}

impl Gate {
    pub(super) fn closed() -> Self {
        Self { arrived: watch::Sender::new(0), open: watch::Sender::new(false) }
    }

    /// Waits until a request has arrived; fails the test after a minute.
    pub async fn reached(&self) {
        self.reached_by(1).await;
    }

    /// Waits until this many requests have arrived; fails the test after a minute.
    pub async fn reached_by(&self, requests: usize) {
        let mut arrived = self.arrived.subscribe();
        let waited = timeout(DEADLINE, arrived.wait_for(|count| *count >= requests)).await;
        assert!(waited.is_ok(), "{requests} requests did not reach the gate within {DEADLINE:?}");
    }

    /// Number of requests that have arrived so far.
    pub fn arrivals(&self) -> usize {
        *self.arrived.borrow()
    }

    /// Lets all requests through, current and future ones.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    pub(super) async fn pass(&self) {
        self.arrived.send_modify(|count| *count += 1);
        // This cannot fail: `self` keeps the sender alive.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}
