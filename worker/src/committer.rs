//! Commits finished copies in batches: copies that finish during a commit are collected for the next one, and while
//! others are in progress, a commit waits a moment for them. This keeps the database work per file small.

use std::sync::Arc;
use std::time::Duration;

use nightferry_core::context::Context;
use nightferry_core::db::replicas::{Finished, Switched};
use nightferry_core::retry;
use nightferry_core::telemetry::SYNC_FILE_TARGET;
use nightferry_core::tiering::commit;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use crate::leases::Held;
use crate::wake::Wake;

/// Maximum number of copies in one commit.
const MAX_BATCH: usize = 500;
/// How long a finished copy waits for others. If the worker dies in the meantime, the copies made in this time are made
/// again.
const BATCH_WINDOW: Duration = Duration::from_millis(50);
/// After this many attempts, about a minute, the leases are released and the copies are made again.
const MAX_ATTEMPTS: u32 = 12;

/// A finished copy and its lease, held until the commit.
pub(crate) type Finish = (Finished, Held);

/// Commits until the channel is closed and empty. Wakes the loop after each commit. `slots` shows whether copies are in
/// progress.
pub(crate) async fn run(
    context: Context,
    mut finished: mpsc::Receiver<Finish>,
    slots: Arc<Semaphore>,
    wake: Wake,
) {
    let all_free = slots.available_permits();
    let mut gathered = Vec::with_capacity(MAX_BATCH);
    while finished.recv_many(&mut gathered, MAX_BATCH).await > 0 {
        let until = Instant::now() + BATCH_WINDOW;
        while gathered.len() < MAX_BATCH && slots.available_permits() < all_free {
            let room = MAX_BATCH.saturating_sub(gathered.len());
            // Received copies are committed with or without a timeout.
            if !matches!(timeout_at(until, finished.recv_many(&mut gathered, room)).await, Ok(1..)) {
                break;
            }
        }
        let (batch, held): (Vec<Finished>, Vec<Held>) = gathered.drain(..).unzip();
        if let Some(switched) = commit(&context, &batch).await {
            tell(&batch, &switched);
        }
        drop(held);
        wake.ring();
    }
}

async fn commit(context: &Context, batch: &[Finished]) -> Option<Vec<Switched>> {
    for attempt in 0..MAX_ATTEMPTS {
        match commit::finish(context, batch).await {
            Ok(switched) => return Some(switched),
            Err(error) => {
                tracing::warn!(target: "nightferry::sync", copies = batch.len(), %error, "cannot commit \
                    copies; retrying");
                let pause = retry::delay(attempt, Duration::from_millis(200), Duration::from_secs(10));
                tokio::time::sleep(pause).await;
            }
        }
    }
    tracing::error!(target: "nightferry::sync", copies = batch.len(), "copies could not be committed; \
        their leases expire and they are made again");
    None
}

fn tell(batch: &[Finished], switched: &[Switched]) {
    for copy in batch {
        let ours = switched.iter().any(|row| row.object_id == copy.object_id && row.store == copy.store);
        if ours {
            metrics::counter!("nightferry_sync_files_total", "outcome" => "copied").increment(1);
            metrics::counter!("nightferry_sync_bytes_total").increment(u64::try_from(copy.size).unwrap_or(0));
            tracing::info!(target: SYNC_FILE_TARGET, object = %copy.object_id, store = copy.store, bytes = copy.size, "copied and verified");
        } else {
            tracing::warn!(target: "nightferry::sync", object = %copy.object_id, store = copy.store, "copied, \
                but the lease was lost or the object removed: nothing was committed");
        }
    }
}
