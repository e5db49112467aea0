//! Eviction: deletes local copies whose cloud copy was verified long enough ago. The copies are marked under row locks
//! that cover the other verified replica, checked again and deleted after a HEAD request for the other copy
//! (`batch.rs`, `evidence.rs`, `delete.rs`), and their rows are deleted. The eviction of a worker that died is taken
//! over, in any store.

mod batch;
mod delete;
mod evidence;
mod keep;
mod read_back;
pub mod watermark;

use std::time::Duration;

use diesel_async::AsyncConnection;
use tokio_util::sync::CancellationToken;

use crate::config::FreeLocalAfter;
use crate::context::Context;
use crate::db::drains;
use crate::db::eviction_places::{self, Place};
use crate::db::replicas::{self, EvictableCopy, EvictionClaim, Order};
use crate::error::{Error, Result};
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::object::identity;
use crate::store::{Store, StoreRole};

use super::policy;
use batch::Done;
use read_back::ReadBacks;

/// Maximum number of copies evicted under one lease: as many as are deleted with one request.
const BATCH: i64 = 250;
/// A pass does not look further after this many copies that cannot be evicted now, and the next one continues there.
const MAX_STAYED: usize = 10_000;
/// A pass does not look further after this many copies whose other copy would have to be read first, and for which it
/// had no time.
const MAX_UNREAD: usize = 1_000;

/// Evicts what the policy allows now, until `stop`. Returns the number of copies.
///
/// # Errors
/// Any database error. Errors of a store are logged; its copies stay marked and are retried.
pub async fn pass(context: &Context, worker: WorkerId, stop: &CancellationToken) -> Result<usize> {
    let mut evicted = 0;
    let draining = drains::names(&mut *context.db.conn().await?).await?;
    // For every store: reconcile deletes surplus objects, and stores are drained.
    for store in context.stores.all() {
        if !identity::is_proven(context, store).await {
            continue;
        }
        let moving_to = policy::destinations(context, store, &draining);
        evicted += EvictionPass::new(context, store, moving_to, worker, stop).take_over().await?;
    }
    for store in context.stores.with_role(StoreRole::Local) {
        if !identity::is_proven(context, store).await {
            continue;
        }
        evicted += EvictionPass::new(context, store, Vec::new(), worker, stop).all_rules().await?;
    }
    Ok(evicted)
}

/// The state of a pass.
pub(super) struct EvictionPass<'p> {
    context: &'p Context,
    /// The store to delete from.
    store: &'p Store,
    /// The destinations, if the store is being drained.
    moving_to: Vec<&'p str>,
    worker: WorkerId,
    stop: &'p CancellationToken,
    read_backs: ReadBacks,
}

/// Copies claimed together, under one lease.
struct Batch {
    token: LeaseToken,
    ours: Vec<EvictableCopy>,
    /// The number of copies that were examined, including those that cannot be evicted now.
    examined: usize,
    /// Where the next batch starts; `None` at the end.
    place: Option<Place>,
}

impl<'p> EvictionPass<'p> {
    pub(super) fn new(
        context: &'p Context,
        store: &'p Store,
        moving_to: Vec<&'p str>,
        worker: WorkerId,
        stop: &'p CancellationToken,
    ) -> Self {
        Self { context, store, moving_to, worker, stop, read_backs: ReadBacks::new(context) }
    }
}

impl EvictionPass<'_> {
    /// Evicts copies according to all rules. Returns the number of copies.
    async fn all_rules(&self) -> Result<usize> {
        let mut evicted = 0;
        for (rule, after) in policy::of(self.context)?.evictions() {
            let FreeLocalAfter::After(after) = after else { continue };
            let done = self.all_of(rule, after).await?;
            evicted += done.evicted;
            // If deletions fail or `stop` is set, the other rules wait too.
            if done.left > 0 {
                break;
            }
        }
        Ok(evicted)
    }

    /// Evicts copies according to one rule: until there are no more, until a deletion fails, or until it has examined
    /// many that cannot be evicted now; then the next pass continues there.
    async fn all_of(&self, rule: &str, after: Duration) -> Result<Done> {
        let order = Order::ByRule { rule, after };
        let began_at = self.place_of(order).await?;
        let (mut all, mut place, mut stayed) = (Done::default(), began_at, 0);
        loop {
            let batch = self.claim(order, place, i64::MAX).await?;
            place = batch.place;
            let done = self.evict(batch.token, batch.ours, true).await?;
            stayed += batch.examined.saturating_sub(done.evicted);
            all.include(done);
            if place.is_none() || all.left > 0 || all.unread > MAX_UNREAD || stayed >= MAX_STAYED {
                self.remember(order, began_at, place.filter(|_| all.left == 0)).await?;
                return Ok(all);
            }
        }
    }

    /// Where a pass in this order continues.
    async fn place_of(&self, order: Order<'_>) -> Result<Option<Place>> {
        eviction_places::find(&mut *self.context.db.conn().await?, self.store.name().as_str(), order).await
    }

    /// Records where the next pass in this order continues; `None` for the start.
    async fn remember(&self, order: Order<'_>, began_at: Option<Place>, place: Option<Place>) -> Result<()> {
        if began_at == place {
            return Ok(());
        }
        let mut conn = self.context.db.conn().await?;
        eviction_places::set(&mut conn, self.store.name().as_str(), order, place).await
    }

    /// Claims the evictable ones of the next copies after `place`, in order, until they have `enough` bytes.
    async fn claim(&self, order: Order<'_>, place: Option<Place>, enough: i64) -> Result<Batch> {
        let mut conn = self.context.db.conn().await?;
        let policy = policy::in_force(self.context, &mut conn).await?;
        let (clouds, keeping) = (policy.available_clouds(), policy.keeping());
        let token = LeaseToken::new();
        let claim = self.terms(token, &clouds, &keeping);
        // A recently verified copy has a grace period, regardless of the policy.
        let order = match order {
            Order::ByRule { rule, after } => Order::ByRule { rule, after: earliest(self.context, after) },
            Order::LeastUsed => order,
        };
        let next = replicas::next_in_order(&mut conn, &claim, order, place, BATCH).await?;
        let Some(last) = next.last() else {
            return Ok(Batch { token, ours: Vec::new(), examined: 0, place: None });
        };
        let end = (last.at, last.object_id);
        let among: Vec<ObjectId> = next.iter().map(|copy| copy.object_id).collect();
        let (spare, whole, claimed) = conn
            .transaction(async move |conn| {
                let mut spare = replicas::lock_evictable(conn, &claim, order, &among).await?;
                let found = spare.len();
                let mut missing = enough;
                spare.retain(|copy| {
                    let wanted = missing > 0;
                    missing = missing.saturating_sub(copy.size);
                    wanted
                });
                let ids: Vec<ObjectId> = spare.iter().map(|copy| copy.object_id).collect();
                let claimed = replicas::claim_evictions(conn, &claim, order.reason(), &ids).await?;
                let whole = spare.len() == found;
                Ok::<_, Error>((spare, whole, claimed))
            })
            .await?;
        // Copies that were not needed are the first ones of the next batch.
        let last_place = spare.last().map(|last| (last.at, last.object_id));
        let place = if whole { Some(end) } else { last_place };
        let ours = spare.into_iter().filter(|copy| claimed.contains(&copy.object_id)).collect();
        Ok(Batch { token, ours, examined: next.len(), place })
    }

    /// Completes evictions started by workers that died, in batches. What cannot be deleted now waits for the next pass,
    /// after all others.
    pub(super) async fn take_over(&self) -> Result<usize> {
        let mut evicted = 0;
        loop {
            let token = LeaseToken::new();
            let begun = {
                let mut conn = self.context.db.conn().await?;
                replicas::reclaim_evictions(&mut conn, &self.terms(token, &[], &[]), BATCH).await?
            };
            let is_last = i64::try_from(begun.len()).unwrap_or(i64::MAX) < BATCH;
            let done = self.evict(token, begun, false).await?;
            evicted += done.evicted;
            if is_last || done.left + done.unread > 0 || self.stop.is_cancelled() {
                return Ok(evicted);
            }
        }
    }

    fn terms<'t>(
        &'t self,
        token: LeaseToken,
        clouds: &'t [&'t str],
        keeping: &'t [&'t str],
    ) -> EvictionClaim<'t> {
        let tiering = &self.context.config.tiering;
        EvictionClaim {
            local: self.store.name().as_str(),
            clouds,
            keeping,
            grace: tiering.evict_grace,
            worker: self.worker,
            token,
            lease: tiering.lease,
        }
    }
}

/// Minimum time between the verification of the cloud copy and the eviction.
pub(super) fn earliest(context: &Context, after: Duration) -> Duration {
    after.max(context.config.tiering.evict_grace)
}
