//! Free: local copies whose cloud copy was verified long enough ago are deleted. Marked under row locks that see
//! the other verified replica, deleted, forgotten; a worker that dies in between is taken over.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::config::FreeLocalAfter;
use crate::context::Context;
use crate::db::replicas;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::store::ObjectKey;

use super::patience::patiently;

/// Copies freed in one batch.
const BATCH: i64 = 100;

/// Frees what the policy allows now, until `stop`. Answers how many copies.
///
/// # Errors
/// Whatever the database meets. A store that fails is logged; its copies stay marked and are taken up again.
pub async fn pass(context: &Context, worker: WorkerId, stop: &CancellationToken) -> Result<usize> {
    let local = context.stores.local()?.name().to_string();
    let cloud = context.stores.cloud()?.name().to_string();
    let lease = context.config.tiering.lease;
    let mut freed = 0;
    // Of every store: reconciling takes away what lies in one without a row.
    for store in context.stores.all().map(|store| store.name().as_str()) {
        let token = LeaseToken::new();
        let orphans = {
            let mut conn = context.db.conn().await?;
            replicas::reclaim_evictions(&mut conn, store, worker, token, lease).await?
        };
        freed += free(context, store, token, orphans, stop).await?;
    }
    let FreeLocalAfter::After(after) = context.config.tiering.free_local_after else { return Ok(freed) };
    loop {
        let token = LeaseToken::new();
        let batch = {
            let mut conn = context.db.conn().await?;
            let claim = replicas::EvictionClaim { local: &local, cloud: &cloud, after, worker, token, lease };
            replicas::claim_evictions(&mut conn, &claim, BATCH).await?
        };
        let claimed = batch.len();
        let done = free(context, &local, token, batch, stop).await?;
        freed += done;
        // Stop at the end of the backlog, and where the store does not delete or we are asked to stop.
        if claimed == 0 || done < claimed {
            return Ok(freed);
        }
    }
}

/// Deletes a batch and forgets what is deleted. What fails keeps its mark and is taken up again when the lease has
/// run out; what was not begun, because time or patience ran out, may be taken up at once.
async fn free(
    context: &Context,
    store: &str,
    token: LeaseToken,
    batch: Vec<(ObjectId, String)>,
    stop: &CancellationToken,
) -> Result<usize> {
    let Some(target) = context.stores.get(store) else { return Ok(0) };
    let over = Instant::now() + context.config.tiering.lease / 2;
    let (mut deleted, mut left) = (Vec::with_capacity(batch.len()), Vec::new());
    for (object, key) in batch {
        let patience = over.saturating_duration_since(Instant::now());
        if stop.is_cancelled() || patience.is_zero() {
            left.push(object);
            continue;
        }
        let Ok(key) = ObjectKey::parse(&key) else {
            tracing::error!(%object, "an object's key in the database is unusable, its local copy stays");
            continue;
        };
        match tokio::time::timeout(patience, target.delete(&key)).await {
            Ok(Ok(())) => deleted.push(object),
            Ok(Err(error)) => {
                tracing::warn!(target: "nightferry::sync", %object, %error, "a local copy could not be freed, it is tried again");
            }
            Err(_) => {
                tracing::warn!(target: "nightferry::sync", %object, "freeing a local copy took too long, it is tried again");
            }
        }
    }
    patiently(async || {
        let mut conn = context.db.conn().await?;
        replicas::let_go_of_evictions(&mut conn, store, token, &left).await?;
        replicas::finish_evictions(&mut conn, store, token, &deleted).await
    })
    .await
}
