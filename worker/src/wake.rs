//! What wakes the transfer loop: a notification from Postgres, a commit, a tick. Only a hint; the loop also looks
//! on a timer.

use std::sync::Arc;
use std::time::Duration;

use nightferry_core::context::Context;
use nightferry_core::db::listen::{self, Listener};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// How long the listener waits before it asks whether its connection still lives.
const LISTEN_FOR: Duration = Duration::from_secs(15);
/// Between two tries to listen when the database is away.
const RECONNECT_AFTER: Duration = Duration::from_secs(2);

/// A bell that is remembered when nobody is waiting.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wake(Arc<Notify>);

impl Wake {
    pub(crate) fn ring(&self) {
        self.0.notify_one();
    }

    /// Waits for the bell, at most `limit`.
    pub(crate) async fn wait(&self, limit: Duration) {
        // Either way the loop looks again.
        let _ = tokio::time::timeout(limit, self.0.notified()).await;
    }
}

/// Rings every bell for every notification about runs and wanted copies, reconnecting for ever.
pub(crate) async fn listen(context: Context, bells: [Wake; 2], shutdown: CancellationToken) {
    while !shutdown.is_cancelled() {
        match Listener::open(&context.db, listen::RUNS).await {
            Ok(mut listener) => {
                // Something may have happened while nobody listened.
                bells.iter().for_each(Wake::ring);
                loop {
                    match listener.wait(LISTEN_FOR).await {
                        Ok(true) => bells.iter().for_each(Wake::ring),
                        Ok(false) => {}
                        Err(error) => {
                            tracing::warn!(%error, "listening to the database broke off, reconnecting");
                            break;
                        }
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "cannot listen to the database, trying again"),
        }
        tokio::time::sleep(RECONNECT_AFTER).await;
    }
}

/// Rings every bell when copies need not wait for some store any more, until it is dropped.
pub(crate) async fn ring_on_recovery(context: Context, bells: [Wake; 2]) {
    loop {
        context.stores.health().recovered().await;
        bells.iter().for_each(Wake::ring);
    }
}
