//! The free-space watermark: when the local store holds more than the high mark, the copies that were not used for
//! longest are freed until the low one. One worker at a time does it, so that no two free for the same bytes.

use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::db::replicas::{self, Order};
use crate::db::{chores, signed};
use crate::error::Result;
use crate::ids::{LeaseToken, WorkerId};

use super::evict::Freeing;

/// Name of the chore.
const CHORE: &str = "watermark";

/// Frees what the watermarks ask for now, until `stop`. Answers how many copies.
///
/// # Errors
/// Whatever the database meets. A store that fails is logged; its copies stay marked and are taken up again.
pub async fn pass(context: &Context, worker: WorkerId, stop: &CancellationToken) -> Result<usize> {
    let Some((high, low)) = context.config.tiering.watermarks() else { return Ok(0) };
    let token = LeaseToken::new();
    if !take(context, token).await? {
        return Ok(0);
    }
    let freeing = Freeing { context, store: context.stores.local()?, worker, stop };
    let freed = free_until(&freeing, token, signed(high), signed(low)).await;
    let mut conn = context.db.conn().await?;
    chores::give_back(&mut conn, CHORE, token).await?;
    freed
}

/// Takes the chore, or renews it.
async fn take(context: &Context, token: LeaseToken) -> Result<bool> {
    let mut conn = context.db.conn().await?;
    chores::take(&mut conn, CHORE, token, context.config.tiering.lease).await
}

async fn free_until(freeing: &Freeing<'_>, token: LeaseToken, high: i64, low: i64) -> Result<usize> {
    let used = {
        let mut conn = freeing.context.db.conn().await?;
        replicas::present_bytes(&mut conn, freeing.store.name().as_str()).await?
    };
    if used <= high {
        return Ok(0);
    }
    let (mut missing, mut freed, mut place) = (used - low, 0, None);
    // A batch takes half a lease at most, so the chore is ours while one is freed.
    while missing > 0 && !freeing.stop.is_cancelled() && take(freeing.context, token).await? {
        let batch = freeing.claim(Order::LeastUsed, place, missing).await?;
        place = batch.place;
        let done = freeing.free(batch.token, batch.ours, true).await?;
        freed += done.freed;
        missing -= done.bytes;
        if done.left > 0 {
            break;
        }
        if place.is_none() {
            tracing::warn!(target: "nightferry::sync", bytes = missing, "the local store is over its mark, and what it still holds may not be freed: it has not crossed, or is pinned");
            break;
        }
    }
    Ok(freed)
}
