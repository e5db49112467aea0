//! Eviction: deletes local copies whose cloud copy was verified long enough ago. The copies are marked under row locks
//! that cover the other verified replica, checked again, deleted after a HEAD request for the other copy
//! ([`super::evidence`]), and their rows are deleted. The eviction of a worker that died is taken over, in any store.

pub(super) mod evidence;
pub mod watermark;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel_async::AsyncConnection;
use tokio_util::sync::CancellationToken;

use crate::config::FreeLocalAfter;
use crate::context::Context;
use crate::db::drains;
use crate::db::replicas::{self, EvictableCopy, Eviction, EvictionClaim, Order};
use crate::error::{Error, Result};
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::object::identity;
use crate::step::{self, Step};
use crate::store::{ObjectKey, Scope, Store, StoreRole};

use super::db_outage::retry_on_db_outage;
use super::policy;
use super::repair;
use evidence::Evidence;

/// Copies evicted in one batch.
const BATCH: i64 = 100;

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
        evicted += EvictionPass { context, store, moving_to, worker, stop }.take_over().await?;
    }
    for store in context.stores.with_role(StoreRole::Local) {
        if !identity::is_proven(context, store).await {
            continue;
        }
        evicted += EvictionPass { context, store, moving_to: Vec::new(), worker, stop }.all_rules().await?;
    }
    Ok(evicted)
}

/// The state of a pass.
pub(super) struct EvictionPass<'p> {
    pub(super) context: &'p Context,
    /// The store to delete from.
    pub(super) store: &'p Store,
    /// The destinations, if the store is being drained.
    pub(super) moving_to: Vec<&'p str>,
    pub(super) worker: WorkerId,
    pub(super) stop: &'p CancellationToken,
}

/// Copies claimed together, under one lease.
pub(super) struct Batch {
    pub(super) token: LeaseToken,
    pub(super) ours: Vec<EvictableCopy>,
    /// Where the next batch starts; `None` at the end.
    pub(super) place: Option<(DateTime<Utc>, ObjectId)>,
}

/// Outcome for one copy.
enum Outcome {
    Deleted,
    /// The file was pinned, or there is no other intact copy.
    Stays,
    /// The other copy could not be checked: this one stays until it can be.
    Unverified,
    /// Another worker holds the lease.
    NotOurs,
}

/// The result of a batch.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Done {
    pub(super) evicted: usize,
    /// Their bytes.
    pub(super) bytes: i64,
    /// Deferred: still marked, or cannot be verified now.
    pub(super) left: usize,
}

impl EvictionPass<'_> {
    /// Evicts copies according to all rules. Returns the number of copies.
    async fn all_rules(&self) -> Result<usize> {
        let mut evicted = 0;
        for (rule, after) in policy::of(self.context)?.frees() {
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

    /// Evicts copies according to one rule: until there are no more, or until a deletion fails.
    async fn all_of(&self, rule: &str, after: Duration) -> Result<Done> {
        let (mut all, mut place) = (Done::default(), None);
        loop {
            let batch = self.claim(Order::ByRule { rule, after }, place, i64::MAX).await?;
            let done = self.free(batch.token, batch.ours, true).await?;
            all.evicted += done.evicted;
            all.bytes += done.bytes;
            all.left += done.left;
            place = batch.place;
            if place.is_none() || done.left > 0 {
                return Ok(all);
            }
        }
    }

    /// Claims the next batch after `place`, in order, until it has `enough` bytes.
    pub(super) async fn claim(
        &self,
        order: Order<'_>,
        place: Option<(DateTime<Utc>, ObjectId)>,
        enough: i64,
    ) -> Result<Batch> {
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
        let (spare, place, claimed) = conn
            .transaction(async move |conn| {
                let mut spare = replicas::lock_evictable(conn, &claim, order, place, BATCH).await?;
                let place = spare.last().map(|last| (last.at, last.object_id));
                let mut missing = enough;
                spare.retain(|copy| {
                    let wanted = missing > 0;
                    missing = missing.saturating_sub(copy.size);
                    wanted
                });
                let ids: Vec<ObjectId> = spare.iter().map(|copy| copy.object_id).collect();
                let claimed = replicas::claim_evictions(conn, &claim, order.reason(), &ids).await?;
                Ok::<_, Error>((spare, place, claimed))
            })
            .await?;
        let ours = spare.into_iter().filter(|copy| claimed.contains(&copy.object_id)).collect();
        Ok(Batch { token, ours, place })
    }

    /// Completes evictions started by workers that died.
    pub(super) async fn take_over(&self) -> Result<usize> {
        let token = LeaseToken::new();
        let begun =
            replicas::reclaim_evictions(&mut *self.context.db.conn().await?, &self.terms(token, &[], &[]))
                .await?;
        Ok(self.free(token, begun, false).await?.evicted)
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

    /// Deletes a batch and removes the rows of deleted copies. Failed ones keep their mark and are retried when the
    /// lease expires; those that were not started, for lack of time, can be retried immediately. `untouched` means that
    /// no deletion has been attempted before.
    pub(super) async fn free(
        &self,
        token: LeaseToken,
        batch: Vec<EvictableCopy>,
        untouched: bool,
    ) -> Result<Done> {
        step::reached(Step::EvictionMarked, "").await;
        let over = Instant::now() + self.context.config.tiering.lease / 2;
        let (mut deleted, mut put_off, mut staying) =
            (Vec::with_capacity(batch.len()), Vec::new(), Vec::new());
        let (mut bytes, mut left) = (0, 0);
        for copy in batch {
            let patience = over.saturating_duration_since(Instant::now());
            // A store that is no longer the one that was claimed from: checked for each copy, at the cost of a lookup.
            let is_over = self.stop.is_cancelled() || patience.is_zero();
            if is_over || !identity::is_proven(self.context, self.store).await {
                put_off.push(copy.object_id);
                continue;
            }
            match tokio::time::timeout(patience, self.free_one(token, &copy)).await {
                Ok(Ok(Outcome::Deleted)) => {
                    bytes += copy.size;
                    deleted.push(copy.object_id);
                }
                Ok(Ok(Outcome::Stays)) => staying.push(copy),
                Ok(Ok(Outcome::Unverified)) => {
                    left += 1;
                    staying.push(copy);
                }
                Ok(Ok(Outcome::NotOurs)) => {}
                Ok(Err(error)) => {
                    left += 1;
                    tracing::warn!(target: "nightferry::sync", object = %copy.object_id, %error, "cannot \
                        evict a copy; retrying");
                }
                Err(_) => {
                    left += 1;
                    tracing::warn!(target: "nightferry::sync", object = %copy.object_id, "evicting a copy \
                        took too long; retrying");
                }
            }
        }
        left += put_off.len();
        step::reached(Step::EvictionForgetting, "").await;
        let store = self.store.name().as_str();
        let primary_stores = self.context.stores.names_with(StoreRole::Cloud);
        let evicted = retry_on_db_outage(async || {
            let mut conn = self.context.db.conn().await?;
            replicas::release_evictions(&mut conn, store, token, &put_off).await?;
            replicas::finish_evictions(&mut conn, store, &primary_stores, token, &deleted).await
        })
        .await?;
        for copy in staying {
            if !self.keep(token, &copy, untouched).await? {
                left += 1;
            }
        }
        Ok(Done { evicted, bytes, left })
    }

    /// Deletes one copy, if it may be deleted and another copy is found intact.
    async fn free_one(&self, token: LeaseToken, copy: &EvictableCopy) -> Result<Outcome> {
        let store = self.store.name().as_str();
        let key = ObjectKey::parse(&copy.key)?;
        step::reached(Step::EvictionBegun, &copy.key).await;
        // By the clock of this process, which continues while it is stopped.
        let (checked, lasts) = (Instant::now(), self.context.config.tiering.lease / 4);
        let verdict = {
            let mut conn = self.context.db.conn().await?;
            let moving_to = &self.moving_to;
            replicas::check_eviction(&mut conn, store, moving_to, token, copy.object_id, lasts).await?
        };
        let others = match verdict {
            Eviction::Allowed { others } => others,
            Eviction::Forbidden => return Ok(Outcome::Stays),
            Eviction::NotOurs => return Ok(Outcome::NotOurs),
        };
        match evidence::seek(self.context, copy.object_id, &others).await? {
            Evidence::Seen => {}
            Evidence::Absent => return Ok(Outcome::Stays),
            Evidence::Unknown(error) => {
                // A failure of a single object must not delay the following ones.
                let concerns_the_store = error.as_ref().is_none_or(|error| error.scope() == Scope::Store);
                let reason = error.map_or_else(
                    || "its store is not healthy, or not the recorded one".to_owned(),
                    |error| error.to_string(),
                );
                tracing::warn!(target: "nightferry::sync", object = %copy.object_id, store, ?others, reason, "a \
                    local copy was kept because the other copy could not be checked");
                return Ok(if concerns_the_store { Outcome::Unverified } else { Outcome::Stays });
            }
        }
        step::reached(Step::EvictionChecked, &copy.key).await;
        if checked.elapsed() >= lasts && !self.is_still_ours(token, copy).await? {
            return Ok(Outcome::NotOurs);
        }
        self.store.delete(&key).await?;
        step::reached(Step::EvictionDeleted, &copy.key).await;
        Ok(Outcome::Deleted)
    }

    /// Renews the lease on a copy whose checks took so long that another worker may have taken it over.
    async fn is_still_ours(&self, token: LeaseToken, copy: &EvictableCopy) -> Result<bool> {
        let (store, lease) = (self.store.name().as_str(), self.context.config.tiering.lease);
        let asked = Instant::now();
        let mut conn = self.context.db.conn().await?;
        let ours = replicas::renew_eviction(&mut conn, store, token, copy.object_id, lease).await?;
        Ok(ours && asked.elapsed() < lease)
    }

    /// Ends the eviction of a copy that must be kept. If a deletion may have been attempted, the copy is verified
    /// first, however long that takes: it may be the last one. Returns whether this was possible now.
    async fn keep(&self, token: LeaseToken, copy: &EvictableCopy, untouched: bool) -> Result<bool> {
        if untouched {
            self.call_off(token, copy, true).await?;
            return Ok(true);
        }
        let mut proof = std::pin::pin!(evidence::is_whole(self.context, self.store, copy.object_id));
        loop {
            let store = self.store.name().as_str();
            let lease = self.context.config.tiering.lease;
            let ours = retry_on_db_outage(async || {
                let mut conn = self.context.db.conn().await?;
                replicas::renew_eviction(&mut conn, store, token, copy.object_id, lease).await
            });
            if !ours.await? {
                return Ok(true);
            }
            let proved = tokio::select! {
                biased;
                proved = &mut proof => proved,
                () = self.stop.cancelled() => return Ok(false),
                () = tokio::time::sleep(lease / 3) => continue,
            };
            return match proved {
                Ok(is_there) => self.call_off(token, copy, is_there).await.map(|()| true),
                Err(error) => {
                    tracing::warn!(target: "nightferry::sync", object = %copy.object_id, %error, "cannot \
                        check a copy that must be kept; retrying");
                    Ok(false)
                }
            };
        }
    }

    /// Ends an eviction without a deletion. A missing copy is marked as lost.
    async fn call_off(&self, token: LeaseToken, copy: &EvictableCopy, is_there: bool) -> Result<()> {
        let store = self.store.name().as_str();
        let primary_stores = self.context.stores.names_with(StoreRole::Cloud);
        let object = copy.object_id;
        let mut conn = self.context.db.conn().await?;
        let left = conn
            .transaction(async move |conn| {
                let ours =
                    replicas::cancel_eviction(conn, store, &primary_stores, token, object, is_there).await?;
                if is_there || !ours {
                    return Ok::<_, Error>(None);
                }
                let error =
                    "its eviction was cancelled, because the other copy was lost or its file was pinned";
                replicas::mark_lost(conn, object, store, &primary_stores, error, None).await
            })
            .await?;
        if left == Some(0) {
            repair::report_unrecoverable(object, &copy.key);
        }
        tracing::info!(target: "nightferry::sync", %object, store, is_there, "a copy is kept: its file was \
            pinned, or no other verified copy is left, or the store with it is suspect");
        Ok(())
    }
}

/// Minimum time between the verification of the cloud copy and the eviction.
pub(super) fn earliest(context: &Context, after: Duration) -> Duration {
    after.max(context.config.tiering.evict_grace)
}
