//! Takes away what died half-way or is wanted no more, queues repairs, and frees local copies that the policy lets go.

use nightferry_core::context::Context;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::{evict, policy, reap, repair, replication, watermark};
use tokio_util::sync::CancellationToken;

/// One pass, broken off at `stop`. Failures, and what was broken off, wait for the next one.
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
        Err(error) => tracing::warn!(%error, "reaping broke off, the next pass goes on"),
    }
    match repair::pass(&context).await {
        Ok(queued) if queued.copies > 0 => {
            tracing::info!(target: "nightferry::sync", copies = queued.copies, bytes = queued.bytes, "lost copies are queued again");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "lost copies could not be queued, the next pass tries again"),
    }
    match replication::pass(&context, &stop).await {
        Ok(queued) if queued > 0 => {
            tracing::info!(target: "nightferry::sync", copies = queued, "local copies that are missing are queued");
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, "which local copies are missing could not be found out, the next pass tries again");
        }
    }
    match policy::review(&context, &stop).await {
        Ok(changed) if changed > 0 => {
            tracing::info!(target: "nightferry::sync", copies = changed, "local copies are freed by another rule from now on");
        }
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(%error, "the rules of local copies could not be reviewed, the next pass tries again");
        }
    }
    let freed = match evict::pass(&context, worker, &stop).await {
        Ok(freed) => watermark::pass(&context, worker, &stop).await.map(|more| freed + more),
        Err(error) => Err(error),
    };
    match freed {
        Ok(0) => {}
        Ok(freed) => tracing::info!(target: "nightferry::sync", freed, "local copies freed"),
        Err(error) => tracing::warn!(%error, "freeing local copies broke off, the next pass goes on"),
    }
}
