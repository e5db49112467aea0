//! Wakes the transfer loop: a notification from Postgres, a commit, a tick. Only a hint; the loop also polls.

use std::sync::Arc;
use std::time::Duration;

use nightferry_core::context::Context;
use nightferry_core::db::listen::{self, Listener};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long the listener waits before it checks its connection.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(15);
/// Delay between attempts to listen while the database is unavailable.
const RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// A wake-up signal that is stored while no task is waiting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wake(Arc<Notify>);

impl Wake {
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for the signal, at most `limit`.
    pub(crate) async fn wait(&self, limit: Duration) {
        // The loop polls in either case.
        let _ = tokio::time::timeout(limit, self.0.notified()).await;
    }
}

/// Signals all loops for every notification about runs and requested copies, reconnecting forever.
pub(crate) async fn listen(context: Context, bells: [Wake; 2], shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        match Listener::open(&context.db, listen::RUNS).await {
            Ok(mut listener) => {
                // Notifications may have been missed while disconnected.
                bells.iter().for_each(Wake::ring);
                loop {
                    match listener.wait(LISTEN_TIMEOUT).await {
                        Ok(true) => bells.iter().for_each(Wake::ring),
                        Ok(false) => {}
                        Err(error) => {
                            tracing::warn!(%error, "listening to the database was interrupted; \
                                reconnecting");
                            break;
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot listen to the database; retrying"),
        }
        tokio::time::sleep(RECONNECT_DELAY).await;
    }
}

/// Rings every bell when copies no longer have to wait for a store, until it is dropped.
pub(crate) async fn ring_on_recovery(context: Context, bells: [Wake; 2]) {
    loop {
        context.stores.health().recovered().await;
        bells.iter().for_each(Wake::ring);
    }
}
