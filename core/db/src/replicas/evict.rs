//! Eviction: copies are selected in order, claimed under locks that guarantee another copy, checked again before the
//! deletions ([`super::check_evictions`]), deleted, and their rows removed.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::ObjectRow;
use super::predicates::{has_verified, none_pending, not_pinned};
use super::transitions::{
    self, BEGIN_EVICTION, CANCEL_EVICTION, FINISH_EVICTION, Lease, RENEW_EVICTION, UPDATE_PRESENT,
    under_lease,
};
use crate::enums::EvictReason;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::statement::Values;

/// The parameters of an eviction, and its lease.
#[derive(Debug)]
pub struct EvictionClaim<'a> {
    /// Store to evict from.
    pub local: &'a str,
    /// The cloud stores: one must have a verified replica, and none may be waiting for one.
    pub clouds: &'a [&'a str],
    /// Rules whose copies are always kept.
    pub keeping: &'a [&'a str],
    /// Minimum time since the verification.
    pub grace: Duration,
    /// The evicting worker.
    pub worker: WorkerId,
    /// Lease token.
    pub token: LeaseToken,
    /// Duration of the lease.
    pub lease: Duration,
}

impl EvictionClaim<'_> {
    fn lease(&self) -> Lease {
        Lease { worker: self.worker, token: self.token, length: self.lease }
    }

    /// Conditions for the eviction of a copy `r`, besides its state: its object has a cloud copy that was verified
    /// before the grace period and no cloud copy that is still pending, it is not pinned, and it is not marked for a
    /// move.
    fn may_go(clouds: &str, grace: &str) -> String {
        let verified =
            format!("s.store = ANY({clouds}) AND s.verified_at <= now() - make_interval(secs => {grace})");
        format!(
            "r.moves_to IS NULL AND {} AND {} AND {}",
            not_pinned("r.object_id"),
            none_pending("r.object_id", clouds),
            has_verified("r.object_id", &verified)
        )
    }
}

/// The order of evictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order<'r> {
    /// Copies of a rule that have been evictable for at least this long, the longest first.
    ByRule {
        /// The rule that evicts them.
        rule: &'r str,
        /// Minimum time since they became evictable.
        after: Duration,
    },
    /// The least recently used first.
    LeastUsed,
}

impl Order<'_> {
    /// Why these copies are evicted.
    pub const fn reason(&self) -> EvictReason {
        match self {
            Self::ByRule { .. } => EvictReason::Policy,
            Self::LeastUsed => EvictReason::Watermark,
        }
    }
}

/// An evictable copy.
#[derive(Debug, Clone, QueryableByName)]
pub struct EvictableCopy {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Key in the store.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// Size in bytes.
    #[diesel(sql_type = BigInt)]
    pub size: i64,
    /// Sort key.
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
}

/// A local copy that is next in an order.
#[derive(Debug, Clone, Copy, QueryableByName)]
pub struct NextCopy {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Sort key.
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
}

/// Conditions on a local copy `r` besides those of [`EvictionClaim::may_go`], and its sort key.
fn in_order(values: &mut Values, claim: &EvictionClaim<'_>, order: Order<'_>) -> (String, &'static str) {
    let (local, keeping) = (values.text(claim.local), values.texts(claim.keeping));
    let (column, which, age) = match order {
        Order::ByRule { rule, after } => {
            ("spare_since", format!("r.free_rule = {}", values.text(rule)), values.seconds(after))
        }
        Order::LeastUsed => ("last_used_at", "NOT r.keep_local".to_owned(), values.seconds(Duration::ZERO)),
    };
    let which = format!(
        "r.store = {local} AND r.state = 'present' AND r.spare_since IS NOT NULL AND {which} \
         AND r.free_rule <> ALL({keeping}) AND r.{column} <= now() - make_interval(secs => {age})"
    );
    (which, column)
}

/// The next `limit` copies in an order after `after`, from the index alone: some may not be evictable, so that the cost
/// does not depend on how many of those follow each other.
pub async fn next_in_order(
    conn: &mut AsyncPgConnection,
    claim: &EvictionClaim<'_>,
    order: Order<'_>,
    after: Option<(DateTime<Utc>, ObjectId)>,
    limit: i64,
) -> Result<Vec<NextCopy>> {
    let mut values = Values::default();
    let (which, column) = in_order(&mut values, claim, order);
    let (at, object) = after.unwrap_or((DateTime::UNIX_EPOCH, ObjectId(uuid::Uuid::nil())));
    let (at, object) = (values.time(at), values.id(object));
    // The limit is part of the text, so that the planner expects a small batch.
    let sql = format!(
        "SELECT r.object_id, r.{column} AS at FROM replicas r \
         WHERE {which} AND (r.{column}, r.object_id) > ({at}, {object}) ORDER BY r.{column}, r.object_id LIMIT {limit}"
    );
    Ok(values.query(&sql).load(conn).await?)
}

/// Locks the evictable ones of these copies, in order: verified elsewhere for long enough, of files that are not pinned,
/// and not about to be moved (such copies are evicted after the move; otherwise they would be copied for nothing). The
/// other replica is locked too, so that of two concurrent evictions only one succeeds. Part of a transaction; rows
/// locked by others are skipped.
pub async fn lock_evictable(
    conn: &mut AsyncPgConnection,
    claim: &EvictionClaim<'_>,
    order: Order<'_>,
    among: &[ObjectId],
) -> Result<Vec<EvictableCopy>> {
    let mut values = Values::default();
    let (which, column) = in_order(&mut values, claim, order);
    let (clouds, grace) = (values.texts(claim.clouds), values.seconds(claim.grace));
    let among = values.ids(among);
    let may_go = EvictionClaim::may_go(&clouds, &grace);
    let sql = format!(
        "WITH picked AS MATERIALIZED ( \
             SELECT r.object_id, r.{column} AS at FROM replicas r \
             WHERE r.object_id = ANY({among}) AND {which} AND {may_go} \
               AND EXISTS (SELECT 1 FROM objects o WHERE o.id = r.object_id AND o.state = 'stored' OFFSET 0) \
             ORDER BY r.{column}, r.object_id FOR UPDATE SKIP LOCKED \
         ) \
         SELECT p.object_id, o.key, o.size, p.at FROM picked p JOIN objects o ON o.id = p.object_id AND o.state = 'stored' \
         JOIN replicas c ON c.object_id = p.object_id AND c.store = ANY({clouds}) AND c.state = 'present' \
              AND c.verified_at <= now() - make_interval(secs => {grace}) \
         ORDER BY p.at, p.object_id FOR UPDATE OF c SKIP LOCKED"
    );
    let mut spare: Vec<EvictableCopy> = values.query(&sql).load(conn).await?;
    // An object in several cloud stores occurs once for each of them, in consecutive rows.
    spare.dedup_by_key(|copy| copy.object_id);
    Ok(spare)
}

/// Marks locked copies as `evicting` with this reason. All conditions are checked again: under the locks the other
/// replica can no longer change, and pins set since the selection are visible. Returns the marked copies.
pub async fn claim_evictions(
    conn: &mut AsyncPgConnection,
    claim: &EvictionClaim<'_>,
    reason: EvictReason,
    ids: &[ObjectId],
) -> Result<Vec<ObjectId>> {
    let mut values = Values::default();
    let sets = format!("evict_reason = '{reason}', {}", claim.lease().set(&mut values));
    let (local, clouds) = (values.text(claim.local), values.texts(claim.clouds));
    let (grace, ids) = (values.seconds(claim.grace), values.ids(ids));
    let which = format!(
        "r.object_id = ANY({ids}) AND r.store = {local} AND {}",
        EvictionClaim::may_go(&clouds, &grace)
    );
    let sql = format!("{} RETURNING r.object_id", BEGIN_EVICTION.update(&sets, "", &which));
    Ok(ObjectRow::ids(values.query(&sql).load(conn).await?))
}

/// Cancels evictions: the copies are `present` again. With `are_there` (their bytes were not touched, or were verified
/// just now), a file whose primary store was lost in the meantime gets this store as its primary store, unless one of
/// the cloud stores `primary_stores` holds a verified copy. Without it, the caller calls [`super::mark_lost`] for each
/// next, in the same transaction; rows that were inserted only for the deletion are deleted. Returns the copies whose
/// lease was still held and whose rows remain.
pub async fn cancel_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    primary_stores: &[&str],
    token: LeaseToken,
    objects: &[ObjectId],
    are_there: bool,
) -> Result<Vec<ObjectId>> {
    if !are_there {
        let mut values = Values::default();
        let which = format!(
            "{} AND r.evict_reason IN ('leftover', 'surplus')",
            under_lease(&mut values, objects, store, token)
        );
        values.query(&FINISH_EVICTION.delete("", &which)).execute(conn).await?;
    }
    let mut values = Values::default();
    let which = under_lease(&mut values, objects, store, token);
    let back = CANCEL_EVICTION.update("", "", &which);
    let primary_stores = values.texts(primary_stores);
    let sql = format!(
        "WITH back AS ({back} RETURNING r.object_id, r.store), homes AS ( \
             UPDATE files f SET storage_location = b.store, synced_at = CASE WHEN b.store = ANY({primary_stores}) THEN now() END \
             FROM back b JOIN file_versions v ON v.object_id = b.object_id \
             WHERE {are_there} AND f.id = v.file_id AND f.current_version = v.number AND f.storage_location <> b.store \
               AND (b.store = ANY({primary_stores}) OR NOT {}) \
         ) SELECT object_id FROM back",
        has_verified("b.object_id", &format!("s.store = ANY({primary_stores})")),
    );
    Ok(ObjectRow::ids(values.query(&sql).load(conn).await?))
}

/// Takes over evictions whose worker died, to complete them: at most `limit`, those that have waited the longest.
pub async fn reclaim_evictions(
    conn: &mut AsyncPgConnection,
    claim: &EvictionClaim<'_>,
    limit: i64,
) -> Result<Vec<EvictableCopy>> {
    let mut values = Values::default();
    let lease = claim.lease().set(&mut values);
    let store = values.text(claim.local);
    let taken = RENEW_EVICTION.update(
        &lease,
        "FROM expired e JOIN objects o ON o.id = e.object_id",
        "r.object_id = e.object_id AND r.store = e.store",
    );
    let sql = format!(
        "WITH expired AS MATERIALIZED ( \
             SELECT object_id, store FROM replicas WHERE state = 'evicting' AND store = {store} AND lease_until < now() \
             ORDER BY lease_until LIMIT {limit} FOR UPDATE SKIP LOCKED \
         ) {taken} RETURNING r.object_id, o.key, o.size, r.last_used_at AS at"
    );
    Ok(values.query(&sql).load(conn).await?)
}

/// Renews the lease of evictions. Returns those whose lease is still held.
pub async fn renew_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    token: LeaseToken,
    objects: &[ObjectId],
    lease: Duration,
) -> Result<Vec<ObjectId>> {
    let mut values = Values::default();
    let until = transitions::until(&mut values, lease);
    let which = under_lease(&mut values, objects, store, token);
    let sql = format!("{} RETURNING r.object_id", RENEW_EVICTION.update(&until, "", &which));
    Ok(ObjectRow::ids(values.query(&sql).load(conn).await?))
}

/// Releases evictions that were marked but not started.
pub async fn release_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    token: LeaseToken,
    ids: &[ObjectId],
) -> Result<usize> {
    Ok(renew_evictions(conn, store, token, ids, Duration::ZERO).await?.len())
}

/// Deletes the rows of replicas whose bytes were deleted from the store. An object without a row in any of the cloud
/// stores `primary_stores` is no longer synced: its local copies are not evictable, and it is planned again. Returns the number
/// of deleted rows.
pub async fn finish_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    primary_stores: &[&str],
    token: LeaseToken,
    ids: &[ObjectId],
) -> Result<usize> {
    let mut values = Values::default();
    let which = under_lease(&mut values, ids, store, token);
    let (store, primary_stores) = (values.text(store), values.texts(primary_stores));
    let mended = UPDATE_PRESENT.update(
        "spare_since = NULL",
        "FROM gone g",
        &format!(
            "r.object_id = g.object_id AND {store} = ANY({primary_stores}) AND r.store <> ALL({primary_stores}) AND r.spare_since IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM replicas c WHERE c.object_id = r.object_id AND c.store = ANY({primary_stores}) \
                             AND c.store <> {store})"
        ),
    );
    let sql = format!(
        "WITH gone AS ({} RETURNING r.object_id), mended AS ({mended}) SELECT object_id FROM gone",
        FINISH_EVICTION.delete("", &which)
    );
    Ok(values.query(&sql).execute(conn).await?)
}
