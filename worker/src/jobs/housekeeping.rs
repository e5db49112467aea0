//! Cleans up after crashes and deletions, queues repairs, and evicts local copies according to the policy.

use nightferry_core::context::Context;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::{evict, policy, reap, repair, replication, watermark};
use tokio_util::sync::CancellationToken;

/// One pass, until `stop`. Failures and unfinished work are retried by the next pass.
pub(crate) async fn housekeeping(context: Context, worker: WorkerId, stop: CancellationToken) {
    let reaped = tokio::select! {
        () = stop.cancelled() => return,
        reaped = reap::pass(&context) => reaped,
    };
    match reaped {
        Ok(reaped) if reaped.objects + reaped.uploads > 0 => {
            tracing::info!(uploads = reaped.uploads, objects = reaped.objects, "reaped");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the reaper was interrupted; the next pass continues"),
    }
    match repair::pass(&context).await {
        Ok(queued) if queued.copies > 0 => {
            tracing::info!(target: "nightferry::sync", copies = queued.copies, bytes = queued.bytes, "queued \
                lost copies again");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot queue lost copies; the next pass retries"),
    }
    match replication::pass(&context, &stop).await {
        Ok(queued) if queued > 0 => {
            tracing::info!(target: "nightferry::sync", copies = queued, "queued missing local copies");
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, "cannot determine which local copies are missing; the next pass retries");
        }
    }
    match policy::review(&context, &stop).await {
        Ok(changed) if changed > 0 => {
            tracing::info!(target: "nightferry::sync", copies = changed, "local copies are evicted by \
                another rule from now on");
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, "cannot review the rules of local copies; the next pass retries");
        }
    }
    let evicted = match evict::pass(&context, worker, &stop).await {
        Ok(evicted) => watermark::pass(&context, worker, &stop).await.map(|more| evicted + more),
        Err(error) => Err(error),
    };
    match evicted {
        Ok(0) => {}
        Ok(evicted) => tracing::info!(target: "nightferry::sync", evicted, "evicted local copies"),
        Err(error) => tracing::warn!(%error, "eviction was interrupted; the next pass continues"),
    }
}
