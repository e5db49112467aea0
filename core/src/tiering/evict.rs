//! Eviction: local copies whose cloud copy was verified long enough ago are deleted. Marked under row locks that see the
//! other verified replica; checked once more; deleted after a HEAD of that other copy ([`super::evidence`]); forgotten. The
//! eviction of a worker that died is taken over, in whichever store.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel_async::AsyncConnection;
use tokio_util::sync::CancellationToken;

use crate::config::FreeLocalAfter;
use crate::context::Context;
use crate::db::drains;
use crate::db::replicas::{self, Eviction, EvictionClaim, Order, Spare};
use crate::error::{Error, Result};
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::step::{self, Step};
use crate::store::{ObjectKey, Store, StoreRole};

use super::evidence::{self, Evidence};
use super::patience::patiently;
use super::policy;
use super::repair;

/// Copies freed in one batch.
const BATCH: i64 = 100;

/// Frees what the policy allows now, until `stop`. Answers how many copies.
///
/// # Errors
/// Whatever the database meets. A store that fails is logged; its copies stay marked and are taken up again.
pub async fn pass(context: &Context, worker: WorkerId, stop: &CancellationToken) -> Result<usize> {
    let mut freed = 0;
    let draining = {
        let mut conn = context.db.conn().await?;
        drains::names(&mut conn).await?
    };
    // Of every store: reconciling takes away what lies in one without a row, and stores are emptied.
    for store in context.stores.all() {
        let moving_to = policy::destinations(context, store, &draining);
        freed += Freeing { context, store, moving_to, worker, stop }.take_over().await?;
    }
    for store in context.stores.with_role(StoreRole::Local) {
        freed += Freeing { context, store, moving_to: Vec::new(), worker, stop }.all_rules().await?;
    }
    Ok(freed)
}

/// What one pass works with.
pub(super) struct Freeing<'p> {
    pub(super) context: &'p Context,
    /// Whose copies are deleted.
    pub(super) store: &'p Store,
    /// Where the copies are instead, if the store is being emptied.
    pub(super) moving_to: Vec<&'p str>,
    pub(super) worker: WorkerId,
    pub(super) stop: &'p CancellationToken,
}

/// Copies claimed together, under one lease.
pub(super) struct Batch {
    pub(super) token: LeaseToken,
    pub(super) ours: Vec<Spare>,
    /// Where the next batch goes on; none at the end.
    pub(super) place: Option<(DateTime<Utc>, ObjectId)>,
}

/// What became of one copy.
enum Outcome {
    Deleted,
    /// Its file was pinned, or there is no other whole copy.
    Stays,
    /// The other copy could not be looked at: this one stays until that is possible.
    Unproved,
    /// Somebody else has it.
    NotOurs,
}

/// What became of a batch.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Done {
    pub(super) freed: usize,
    /// Bytes of those.
    pub(super) bytes: i64,
    /// For another time: still marked, or not to be proved now.
    pub(super) left: usize,
}

impl Freeing<'_> {
    /// Frees what any rule lets go. Answers how many copies.
    async fn all_rules(&self) -> Result<usize> {
        let mut freed = 0;
        for (rule, after) in policy::of(self.context)?.frees() {
            let FreeLocalAfter::After(after) = after else { continue };
            let done = self.all_of(rule, after).await?;
            freed += done.freed;
            // Where the store does not delete or we are asked to stop, the others wait too.
            if done.left > 0 {
                break;
            }
        }
        Ok(freed)
    }

    /// Frees what a rule lets go: until the end of the backlog, or until something does not go.
    async fn all_of(&self, rule: &str, after: Duration) -> Result<Done> {
        let (mut all, mut place) = (Done::default(), None);
        loop {
            let batch = self.claim(Order::Spare { rule, after }, place, i64::MAX).await?;
            let done = self.free(batch.token, batch.ours, true).await?;
            all.freed += done.freed;
            all.bytes += done.bytes;
            all.left += done.left;
            place = batch.place;
            if place.is_none() || done.left > 0 {
                return Ok(all);
            }
        }
    }

    /// Claims the next batch after `place`, in order, until its bytes are `enough`.
    pub(super) async fn claim(
        &self,
        order: Order<'_>,
        place: Option<(DateTime<Utc>, ObjectId)>,
        enough: i64,
    ) -> Result<Batch> {
        let mut conn = self.context.db.conn().await?;
        let policy = policy::in_force(self.context, &mut conn).await?;
        let (clouds, keeping) = (policy.lasting_clouds(), policy.keeping());
        let token = LeaseToken::new();
        let claim = self.terms(token, &clouds, &keeping);
        // A copy that was verified a moment ago has its grace, whatever the policy says.
        let order = match order {
            Order::Spare { rule, after } => Order::Spare { rule, after: earliest(self.context, after) },
            Order::LeastUsed => order,
        };
        let (spare, place, claimed) = conn
            .transaction(async move |conn| {
                let mut spare = replicas::lock_spare(conn, &claim, order, place, BATCH).await?;
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

    /// Finishes what workers that died had begun.
    pub(super) async fn take_over(&self) -> Result<usize> {
        let token = LeaseToken::new();
        let begun = {
            let mut conn = self.context.db.conn().await?;
            replicas::reclaim_evictions(&mut conn, &self.terms(token, &[], &[])).await?
        };
        Ok(self.free(token, begun, false).await?.freed)
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

    /// Deletes a batch and forgets what is deleted. What fails keeps its mark and is taken up again when the lease
    /// has run out; what was not begun, because time or patience ran out, may be taken up at once. `untouched` says
    /// that nobody has tried to delete any of it before.
    pub(super) async fn free(&self, token: LeaseToken, batch: Vec<Spare>, untouched: bool) -> Result<Done> {
        step::reached(Step::EvictionMarked, "").await;
        let over = Instant::now() + self.context.config.tiering.lease / 2;
        let (mut deleted, mut put_off, mut staying) =
            (Vec::with_capacity(batch.len()), Vec::new(), Vec::new());
        let (mut bytes, mut left) = (0, 0);
        for copy in batch {
            let patience = over.saturating_duration_since(Instant::now());
            if self.stop.is_cancelled() || patience.is_zero() {
                put_off.push(copy.object_id);
                continue;
            }
            match tokio::time::timeout(patience, self.free_one(token, &copy)).await {
                Ok(Ok(Outcome::Deleted)) => {
                    bytes += copy.size;
                    deleted.push(copy.object_id);
                }
                Ok(Ok(Outcome::Stays)) => staying.push(copy),
                Ok(Ok(Outcome::Unproved)) => {
                    left += 1;
                    staying.push(copy);
                }
                Ok(Ok(Outcome::NotOurs)) => {}
                Ok(Err(error)) => {
                    left += 1;
                    tracing::warn!(target: "nightferry::sync", object = %copy.object_id, %error, "a copy could not be freed, it is tried again");
                }
                Err(_) => {
                    left += 1;
                    tracing::warn!(target: "nightferry::sync", object = %copy.object_id, "freeing a copy took too long, it is tried again");
                }
            }
        }
        left += put_off.len();
        step::reached(Step::EvictionForgetting, "").await;
        let store = self.store.name().as_str();
        let homes = self.context.stores.names_with(StoreRole::Cloud);
        let freed = patiently(async || {
            let mut conn = self.context.db.conn().await?;
            replicas::let_go_of_evictions(&mut conn, store, token, &put_off).await?;
            replicas::finish_evictions(&mut conn, store, &homes, token, &deleted).await
        })
        .await?;
        for copy in staying {
            if !self.keep(token, &copy, untouched).await? {
                left += 1;
            }
        }
        Ok(Done { freed, bytes, left })
    }

    /// Deletes one copy, if it may go and another one is seen whole.
    async fn free_one(&self, token: LeaseToken, copy: &Spare) -> Result<Outcome> {
        let store = self.store.name().as_str();
        let key = ObjectKey::parse(&copy.key)
            .map_err(|error| Error::Internal(format!("object key in the database: {error}")))?;
        step::reached(Step::EvictionBegun, &copy.key).await;
        let verdict = {
            let mut conn = self.context.db.conn().await?;
            replicas::check_eviction(&mut conn, store, &self.moving_to, token, copy.object_id).await?
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
                // What concerns this object alone must not keep the next ones waiting.
                let concerns_the_store =
                    error.as_ref().is_none_or(|error| error.is_outage() || error.is_credentials());
                let reason =
                    error.map_or_else(|| "its store is not healthy".to_owned(), |error| error.to_string());
                tracing::warn!(target: "nightferry::sync", object = %copy.object_id, store, ?others, reason, "a copy stays, because the other one could not be looked at");
                return Ok(if concerns_the_store { Outcome::Unproved } else { Outcome::Stays });
            }
        }
        step::reached(Step::EvictionChecked, &copy.key).await;
        self.store.delete(&key).await?;
        step::reached(Step::EvictionDeleted, &copy.key).await;
        Ok(Outcome::Deleted)
    }

    /// Ends the eviction of a copy that must stay. Where somebody may have tried to delete it, it is proved first, for as
    /// long as that takes: it may be the last one. Answers whether that could be done now.
    async fn keep(&self, token: LeaseToken, copy: &Spare, untouched: bool) -> Result<bool> {
        if untouched {
            self.call_off(token, copy, true).await?;
            return Ok(true);
        }
        let mut proof = std::pin::pin!(evidence::is_whole(self.context, self.store, copy.object_id));
        loop {
            let store = self.store.name().as_str();
            let lease = self.context.config.tiering.lease;
            let ours = patiently(async || {
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
                    tracing::warn!(target: "nightferry::sync", object = %copy.object_id, %error, "a copy that must stay could not be looked at, it is tried again");
                    Ok(false)
                }
            };
        }
    }

    /// Ends an eviction without freeing. What turned out to be gone is lost like any other copy.
    async fn call_off(&self, token: LeaseToken, copy: &Spare, is_there: bool) -> Result<()> {
        let store = self.store.name().as_str();
        let homes = self.context.stores.names_with(StoreRole::Cloud);
        let object = copy.object_id;
        let mut conn = self.context.db.conn().await?;
        let left = conn
            .transaction(async move |conn| {
                let ours = replicas::call_eviction_off(conn, store, &homes, token, object, is_there).await?;
                if is_there || !ours {
                    return Ok::<_, Error>(None);
                }
                let error = "it was being freed when the other copy was lost or its file was pinned";
                replicas::mark_lost(conn, object, store, &homes, error, None).await
            })
            .await?;
        if left == Some(0) {
            repair::tell_nothing_left(object, &copy.key);
        }
        tracing::info!(target: "nightferry::sync", %object, store, is_there, "a copy stays: its file was pinned, or no other verified copy is left, or the store that has one is in doubt");
        Ok(())
    }
}

/// How long after its cloud copy was verified a local copy is freed at the earliest.
pub(super) fn earliest(context: &Context, after: Duration) -> Duration {
    after.max(context.config.tiering.evict_grace)
}
