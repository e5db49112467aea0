//! Commits finished copies together: while one commit is on its way, the next ones gather, and as long as others are
//! being made a commit waits a moment for them, so that the database's work per file stays small.

use std::sync::Arc;
use std::time::Duration;

use nightferry_core::context::Context;
use nightferry_core::db::replicas::{Finished, Switched};
use nightferry_core::retry;
use nightferry_core::telemetry::SYNC_FILE_TARGET;
use nightferry_core::tiering::settle;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use crate::leases::Held;
use crate::wake::Wake;

/// Copies in one commit.
const MOST: usize = 500;
/// How long a finished copy waits for others to be committed with. Should the worker die meanwhile, the copies made
/// in this time are made again.
const GATHER: Duration = Duration::from_millis(50);
/// After so many, about a minute, the leases are let go of and the copies are made again.
const TRIES: u32 = 12;

/// A finished copy, with its lease held until it is committed.
pub(crate) type Finish = (Finished, Held);

/// Commits until the channel is closed and empty. Rings after each commit. `slots` says whether copies are being made.
pub(crate) async fn run(
    context: Context,
    mut finished: mpsc::Receiver<Finish>,
    slots: Arc<Semaphore>,
    wake: Wake,
) {
    let all_free = slots.available_permits();
    let mut gathered = Vec::with_capacity(MOST);
    while finished.recv_many(&mut gathered, MOST).await > 0 {
        let until = Instant::now() + GATHER;
        while gathered.len() < MOST && slots.available_permits() < all_free {
            let room = MOST.saturating_sub(gathered.len());
            // In time or not, what has come is committed.
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
    for attempt in 0..TRIES {
        match settle::finish(context, batch).await {
            Ok(switched) => return Some(switched),
            Err(error) => {
                tracing::warn!(target: "nightferry::sync", copies = batch.len(), %error, "committing copies failed, trying again");
                let pause = retry::delay(attempt, Duration::from_millis(200), Duration::from_secs(10));
                tokio::time::sleep(pause).await;
            }
        }
    }
    tracing::error!(target: "nightferry::sync", copies = batch.len(), "copies could not be committed; their leases run out and they are made again");
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
            tracing::warn!(target: "nightferry::sync", object = %copy.object_id, store = copy.store, "copied, but the lease was lost or the object removed: nothing was switched");
        }
    }
}
