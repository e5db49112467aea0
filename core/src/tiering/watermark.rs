//! The free-space watermark: when a local store holds more than the high mark, the copies that were not used for
//! longest are freed until the low one. One worker at a time does it, so that no two free for the same bytes.

use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::db::replicas::{self, Order};
use crate::db::signed;
use crate::error::Result;
use crate::ids::WorkerId;
use crate::store::StoreRole;

use super::evict::Freeing;
use super::lease::with_lease;

/// Frees what the watermarks ask for now, until `stop`, in each local store. Answers how many copies.
///
/// # Errors
/// Whatever the database meets. A store that fails is logged; its copies stay marked and are taken up again.
pub async fn pass(context: &Context, worker: WorkerId, stop: &CancellationToken) -> Result<usize> {
    let mut freed = 0;
    for store in context.stores.with_role(StoreRole::Local) {
        let capacity = context.config.capacity_of(store.name().as_str());
        let Some((high, low)) = capacity.and_then(|all| context.config.tiering.watermarks(all)) else {
            continue;
        };
        let freeing = Freeing { context, store, moving_to: Vec::new(), worker, stop };
        let work = Box::pin(free_until(&freeing, signed(high), signed(low)));
        freed += with_lease(context, &format!("watermark {}", store.name()), work).await?.unwrap_or(0);
    }
    Ok(freed)
}

async fn free_until(freeing: &Freeing<'_>, high: i64, low: i64) -> Result<usize> {
    let used = {
        let mut conn = freeing.context.db.conn().await?;
        replicas::present_bytes(&mut conn, freeing.store.name().as_str()).await?
    };
    if used <= high {
        return Ok(0);
    }
    let (mut missing, mut freed, mut place) = (used - low, 0, None);
    while missing > 0 && !freeing.stop.is_cancelled() {
        let batch = freeing.claim(Order::LeastUsed, place, missing).await?;
        place = batch.place;
        let done = freeing.free(batch.token, batch.ours, true).await?;
        freed += done.freed;
        missing -= done.bytes;
        if done.left > 0 {
            break;
        }
        if place.is_none() {
            tracing::warn!(target: "nightferry::sync", store = %freeing.store.name(), bytes = missing, "the local store is over its mark, and what it still holds may not be freed: it has not crossed, or is pinned");
            break;
        }
    }
    Ok(freed)
}
