//! The watermarks: if a local store exceeds its high watermark, the least recently used copies are evicted down to the
//! low one. In one worker at a time, so that no two evict for the same bytes.

use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::db::replicas::{self, Order};
use crate::db::signed;
use crate::error::Result;
use crate::ids::WorkerId;
use crate::object::identity;
use crate::store::StoreRole;

use crate::tiering::evict::{EvictionPass, MAX_STAYED, MAX_UNREAD};
use crate::tiering::lease::with_lease;

/// Evicts what the watermarks require now, until `stop`, in each local store. Returns the number of copies.
///
/// # Errors
/// Any database error. Errors of a store are logged; its copies stay marked and are retried.
pub async fn pass(context: &Context, worker: WorkerId, stop: &CancellationToken) -> Result<usize> {
    let mut evicted = 0;
    for store in context.stores.with_role(StoreRole::Local) {
        if !identity::is_proven(context, store).await {
            continue;
        }
        let capacity = context.config.capacity_of(store.name().as_str());
        let Some((high, low)) = capacity.and_then(|all| context.config.tiering.watermarks(all)) else {
            continue;
        };
        let pass = EvictionPass::new(context, store, Vec::new(), worker, stop);
        let work = Box::pin(evict_until(&pass, signed(high), signed(low)));
        evicted += with_lease(context, &format!("watermark {}", store.name()), work).await?.unwrap_or(0);
    }
    Ok(evicted)
}

async fn evict_until(pass: &EvictionPass<'_>, high: i64, low: i64) -> Result<usize> {
    let used =
        replicas::used_bytes_in(&mut *pass.context.db.conn().await?, pass.store.name().as_str()).await?;
    if used <= high {
        return Ok(0);
    }
    let began_at = pass.place_of(Order::LeastUsed).await?;
    let (mut missing, mut evicted, mut unread, mut stayed) = (used - low, 0, 0, 0);
    let mut place = began_at;
    while missing > 0 && !pass.stop.is_cancelled() {
        let batch = pass.claim(Order::LeastUsed, place, missing).await?;
        place = batch.place;
        let done = pass.evict(batch.token, batch.ours, true).await?;
        evicted += done.evicted;
        stayed += batch.examined.saturating_sub(done.evicted);
        missing -= done.bytes;
        unread += done.unread;
        if done.left > 0 || unread > MAX_UNREAD {
            break;
        }
        if stayed >= MAX_STAYED {
            pass.remember(Order::LeastUsed, began_at, place).await?;
            return Ok(evicted);
        }
        // The next pass starts at the least used copy.
        if place.is_none() && began_at.is_some() {
            break;
        }
        if place.is_none() {
            tracing::warn!(target: "nightferry::sync", store = %pass.store.name(), bytes = missing, "the \
                local store is above its watermark, and its remaining copies cannot be evicted now: they have \
                not been synced, are pinned, or their other copies must be read first");
            break;
        }
    }
    pass.remember(Order::LeastUsed, began_at, None).await?;
    Ok(evicted)
}
