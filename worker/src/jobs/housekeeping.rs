//! Cleans up after crashes and deletions, queues repairs, and evicts local copies according to the policy.

use nightferry_core::context::Context;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::{evict, policy, reap, repair, replication, watermark};
use tokio_util::sync::CancellationToken;

use super::{is_catalogue_lost, or_warn};

/// One pass, until `stop`. Failures and unfinished work are retried by the next pass.
pub(crate) async fn housekeeping(context: Context, worker: WorkerId, stop: CancellationToken) {
    if is_catalogue_lost(&context) {
        return;
    }
    let completed = reap::complete_counts(&context).await;
    if or_warn(completed, "cannot count the replicas; the next pass retries") == Some(true) {
        tracing::info!(target: "nightferry::sync", "counted the replicas that are older than the counts");
    }
    let reaped = tokio::select! {
        () = stop.cancelled() => return,
        reaped = reap::pass(&context) => reaped,
    };
    if let Some(reaped) = or_warn(reaped, "the reaper was interrupted; the next pass continues")
        && reaped.objects + reaped.uploads > 0
    {
        tracing::info!(uploads = reaped.uploads, objects = reaped.objects, "reaped");
    }
    let repaired = repair::pass(&context).await;
    if let Some(queued) = or_warn(repaired, "cannot queue lost copies; the next pass retries")
        && queued.copies > 0
    {
        let (copies, bytes) = (queued.copies, queued.bytes);
        tracing::info!(target: "nightferry::sync", copies, bytes, "queued lost copies again");
    }
    let failure = "cannot determine which local copies are missing; the next pass retries";
    if let Some(copies @ 1..) = or_warn(replication::pass(&context, &stop).await, failure) {
        tracing::info!(target: "nightferry::sync", copies, "queued missing local copies");
    }
    let failure = "cannot review the rules of local copies; the next pass retries";
    if let Some(copies @ 1..) = or_warn(policy::review(&context, &stop).await, failure) {
        tracing::info!(target: "nightferry::sync", copies, "local copies are evicted by another rule from now on");
    }
    let evicted = match evict::pass(&context, worker, &stop).await {
        Ok(evicted) => watermark::pass(&context, worker, &stop).await.map(|more| evicted + more),
        Err(error) => Err(error),
    };
    if let Some(evicted @ 1..) = or_warn(evicted, "eviction was interrupted; the next pass continues") {
        tracing::info!(target: "nightferry::sync", evicted, "evicted local copies");
    }
}
