//! Leases: how a worker claims copies, renews its leases, and sends heartbeats.

use std::time::{Duration, Instant};

use crate::config::{TieringConfig, TransferOrder};
use crate::context::Context;
use crate::db::replicas::{self, Claim, ClaimTerms, OnDemand};
use crate::db::workers;
pub use crate::db::workers::Identity;
use crate::error::Result;
use crate::ids::{LeaseToken, RunId, WorkerId};
use crate::step::{self, Step};
use crate::store::{Store, StoreRole};
use crate::tiering::copy::CopyLease;

/// Copies claimed together, each under a lease of its own.
#[derive(Debug)]
pub struct Batch {
    /// The claimed copies.
    pub claims: Vec<Claim>,
    /// Length of the leases.
    lease: Duration,
    /// A time before the claim.
    since: Instant,
}

impl Batch {
    /// The lease of one of the copies.
    pub fn lease_of(&self, claim: &Claim) -> CopyLease {
        CopyLease::new(claim.token, self.lease, self.since)
    }
}

/// Claims at most `most` copies of a run, in the configured order. Returns none if no copy is due or all due copies
/// need a store that is down. Copies that failed before come after all others, once they are due.
///
/// # Errors
/// Any database error.
pub async fn next_batch(context: &Context, run: RunId, worker: WorkerId, most: usize) -> Result<Batch> {
    let (down, full) = (context.stores.health().unreadable(), context.stores.health().full());
    let TieringConfig { order, lease, .. } = context.config.tiering;
    let limit = i64::try_from(most).unwrap_or(i64::MAX);
    let terms = ClaimTerms { worker, limit, lease, down: &down, full: &full };
    let mut conn = context.db.conn().await?;
    let since = Instant::now();
    let by_size = match order {
        TransferOrder::Oldest => Vec::new(),
        order => {
            let largest = order == TransferOrder::Largest;
            let mut claims = replicas::claim_by_size(&mut conn, largest, run, terms).await?;
            // The database returns a batch in any order.
            claims.sort_unstable_by_key(|claim| if largest { -claim.size } else { claim.size });
            claims
        }
    };
    let claims = if by_size.is_empty() { replicas::claim(&mut conn, run, terms).await? } else { by_size };
    drop(conn);
    step::reached(Step::Claimed, "").await;
    Ok(Batch { claims, lease, since })
}

/// Whether a copy cannot be made now: its target store is down or full, or all its possible source stores are down.
pub fn is_blocked(context: &Context, claim: &Claim) -> bool {
    let (down, full) = (context.stores.health().unreadable(), context.stores.health().full());
    let mut sources = claim.sources.iter().filter(|store| **store != claim.store).peekable();
    down.contains(&claim.store)
        || full.contains(&claim.store)
        || (sources.peek().is_some() && sources.all(|store| down.contains(store)))
}

/// Claims at most `most` copies outside of runs: copies for local stores, and moves between cloud stores, without those
/// that need a store that is down. The backlog of one store does not delay the others.
///
/// # Errors
/// Any database error.
pub async fn next_fetches(context: &Context, worker: WorkerId, most: usize) -> Result<Batch> {
    let (down, full) = (context.stores.health().unreadable(), context.stores.health().full());
    let lease = context.config.tiering.lease;
    let is_out = |store: &Store| down.iter().chain(&full).any(|name| name == store.name().as_str());
    let stores: Vec<&Store> = context.stores.all().filter(|store| !is_out(store)).collect();
    let share = most.div_ceil(stores.len().max(1));
    let mut conn = context.db.conn().await?;
    let since = Instant::now();
    let mut claims = Vec::new();
    for store in stores {
        let limit = i64::try_from(share.min(most.saturating_sub(claims.len()))).unwrap_or(i64::MAX);
        if limit == 0 {
            break;
        }
        let terms = ClaimTerms { worker, limit, lease, down: &down, full: &full };
        // All other copies queued for the cloud wait for a run.
        let which = match store.role() {
            StoreRole::Local => OnDemand::Everything,
            StoreRole::Cloud => OnDemand::Drained,
        };
        claims.extend(replicas::claim_on_demand(&mut conn, store.name().as_str(), which, terms).await?);
    }
    drop(conn);
    step::reached(Step::Claimed, "").await;
    Ok(Batch { claims, lease, since })
}

/// Sends a heartbeat, with the stores that this worker is waiting for and how far its clock is ahead, and renews its
/// leases. Returns the renewed ones; the others are lost, or their copies are finished.
///
/// # Errors
/// Any database error; the leases remain valid until they expire.
pub async fn heartbeat(
    context: &Context,
    worker: &Identity,
    state: &str,
    working_under: &[LeaseToken],
) -> Result<Vec<LeaseToken>> {
    let mut conn = context.db.conn().await?;
    let lease = context.config.tiering.lease;
    let renewed = replicas::renew_leases(&mut conn, worker.id, working_under, lease).await?;
    let (out, ahead) = (context.stores.health().out(), context.clock.ahead());
    workers::heartbeat(&mut conn, worker, state, out, ahead).await?;
    Ok(renewed)
}

/// Removes a worker that is stopping.
///
/// # Errors
/// Any database error; the row is removed after a day without a heartbeat.
pub async fn sign_off(context: &Context, worker: WorkerId) -> Result<()> {
    workers::delete(&mut *context.db.conn().await?, worker).await
}
