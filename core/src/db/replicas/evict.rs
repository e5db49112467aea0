//! Copies that are freed: picked in the order in which they go, claimed under the locks that prove another one, looked
//! at again before each deletion, deleted, and forgotten.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::ObjectRow;
use super::predicates::{has_verified, none_pending, not_pinned, readable};
use super::transitions::{
    self, BEGIN_EVICTION, CANCEL_EVICTION, FINISH_EVICTION, Lease, NOTE_PRESENT, RENEW_EVICTION, under_lease,
};
use crate::db::enums::EvictReason;
use crate::db::statement::Values;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, WorkerId};

/// Which copies to free, and under which lease.
#[derive(Debug)]
pub struct EvictionClaim<'a> {
    /// Store to free.
    pub local: &'a str,
    /// The cloud's stores: one must hold a verified replica, and none may wait for one.
    pub clouds: &'a [&'a str],
    /// Rules whose copies stay whatever happens.
    pub keeping: &'a [&'a str],
    /// Verified for at least this long.
    pub grace: Duration,
    /// Who frees.
    pub worker: WorkerId,
    /// Lease token.
    pub token: LeaseToken,
    /// Life of the lease.
    pub lease: Duration,
}

impl EvictionClaim<'_> {
    fn lease(&self) -> Lease {
        Lease { worker: self.worker, token: self.token, length: self.lease }
    }

    /// What must hold of every copy `r` that is freed, besides its state: its object has a copy in the cloud that was verified
    /// before the grace period and none that is still to be made, and it is neither pinned nor about to move.
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

/// In which order copies go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order<'r> {
    /// Those of a rule that have been spare for at least so long, the longest first.
    Spare {
        /// The rule by which they are freed.
        rule: &'r str,
        /// Spare for so long.
        after: Duration,
    },
    /// The least recently used first.
    LeastUsed,
}

impl Order<'_> {
    /// Why copies go in this order.
    pub const fn reason(&self) -> EvictReason {
        match self {
            Self::Spare { .. } => EvictReason::Policy,
            Self::LeastUsed => EvictReason::Watermark,
        }
    }
}

/// A copy that may be freed.
#[derive(Debug, Clone, QueryableByName)]
pub struct Spare {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Key in the store.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// Size in bytes.
    #[diesel(sql_type = BigInt)]
    pub size: i64,
    /// Its place in the order.
    #[diesel(sql_type = Timestamptz)]
    pub at: DateTime<Utc>,
}

/// Locks the next copies after `after` that may be freed: verified elsewhere for long enough, of files that nobody
/// pinned; one that is about to move to another store is freed there, or it would be copied for nothing. The other
/// replica is locked too, so that of two evictions at once only one can win. Part of a transaction; what is locked by
/// others is left to them.
pub async fn lock_spare(
    conn: &mut AsyncPgConnection,
    claim: &EvictionClaim<'_>,
    order: Order<'_>,
    after: Option<(DateTime<Utc>, ObjectId)>,
    limit: i64,
) -> Result<Vec<Spare>> {
    let mut values = Values::default();
    let (local, clouds) = (values.text(claim.local), values.texts(claim.clouds));
    let (grace, keeping) = (values.seconds(claim.grace), values.texts(claim.keeping));
    let (column, which, age) = match order {
        Order::Spare { rule, after } => {
            ("spare_since", format!("r.free_rule = {}", values.text(rule)), values.seconds(after))
        }
        Order::LeastUsed => ("last_used_at", "NOT r.keep_local".to_owned(), values.seconds(Duration::ZERO)),
    };
    let (at, object) = after.unwrap_or((DateTime::UNIX_EPOCH, ObjectId(uuid::Uuid::nil())));
    let (at, object) = (values.time(at), values.id(object));
    let may_go = EvictionClaim::may_go(&clouds, &grace);
    // First the batch from the index alone, with its limit in the text so that the planner knows how small it is.
    let sql = format!(
        "WITH picked AS MATERIALIZED ( \
             SELECT r.object_id, r.{column} AS at FROM replicas r \
             WHERE r.store = {local} AND r.state = 'present' AND r.spare_since IS NOT NULL AND {which} \
               AND r.free_rule <> ALL({keeping}) AND r.{column} <= now() - make_interval(secs => {age}) \
               AND (r.{column}, r.object_id) > ({at}, {object}) AND {may_go} \
               AND EXISTS (SELECT 1 FROM objects o WHERE o.id = r.object_id AND o.state = 'stored' OFFSET 0) \
             ORDER BY r.{column}, r.object_id LIMIT {limit} FOR UPDATE SKIP LOCKED \
         ) \
         SELECT p.object_id, o.key, o.size, p.at FROM picked p JOIN objects o ON o.id = p.object_id AND o.state = 'stored' \
         JOIN replicas c ON c.object_id = p.object_id AND c.store = ANY({clouds}) AND c.state = 'present' \
              AND c.verified_at <= now() - make_interval(secs => {grace}) \
         ORDER BY p.at, p.object_id FOR UPDATE OF c SKIP LOCKED"
    );
    let mut spare: Vec<Spare> = values.query(&sql).load(conn).await?;
    // One that several of the cloud's stores hold comes once for each of them, all in a row.
    spare.dedup_by_key(|copy| copy.object_id);
    Ok(spare)
}

/// Marks locked copies as `evicting`, for this reason. Everything is looked at once more: under the locks the other replica
/// can change no more, and a file that was pinned since they were picked is seen. Returns those that are ours to free.
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

/// What a look at a claimed eviction says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Eviction {
    /// The copy may be deleted if one of those in these other stores is seen to be whole.
    Allowed {
        /// Stores with a verified copy that permits the deletion.
        others: Vec<String>,
    },
    /// It must stay: its file was pinned, or no other store has a verified replica any more.
    Forbidden,
    /// Somebody else has it now.
    NotOurs,
}

/// Looks at a claimed eviction once more, at the last moment before the deletion. From a store that is being emptied a copy
/// may also go because one of the stores `moving_to` holds a readable one; there a pin holds nothing back, because the copy
/// has moved. One that was to move to a certain store goes only if that one holds a readable one.
pub async fn check_eviction(
    conn: &mut AsyncPgConnection,
    store: &str,
    moving_to: &[&str],
    token: LeaseToken,
    object: ObjectId,
) -> Result<Eviction> {
    let mut values = Values::default();
    let (object, store, token) = (values.id(object), values.text(store), values.id(token));
    let moving_to = values.texts(moving_to);
    let sql = format!(
        "SELECT ARRAY(SELECT s.store FROM replicas s \
                 WHERE s.object_id = r.object_id AND s.store <> r.store AND s.state = 'present' \
                   AND CASE r.evict_reason WHEN 'rebalance' THEN s.store = r.moves_to AND {readable} \
                       ELSE {not_pinned} OR (s.store = ANY({moving_to}) AND {readable}) END \
                 ORDER BY s.store) AS others FROM replicas r \
         WHERE r.object_id = {object} AND r.store = {store} AND r.state = 'evicting' AND r.lease_token = {token}",
        readable = readable("s"),
        not_pinned = not_pinned("r.object_id"),
    );
    let row: Option<Checked> = values.query(&sql).get_result(conn).await.optional()?;
    Ok(match row {
        None => Eviction::NotOurs,
        Some(Checked { others }) if others.is_empty() => Eviction::Forbidden,
        Some(Checked { others }) => Eviction::Allowed { others },
    })
}

#[derive(QueryableByName)]
struct Checked {
    #[diesel(sql_type = Array<Text>)]
    others: Vec<String>,
}

/// Ends an eviction without freeing: the copy is `present` again. Where it `is_there`, proved by now, a file whose home
/// was lost meanwhile has its home here, unless another of the stores `homes`, the cloud's, holds a verified copy. Where it
/// is not, [`super::mark_lost`] comes next, in the same transaction; a row that was made only for the deletion goes.
/// Returns whether the copy was ours and has a row.
pub async fn call_eviction_off(
    conn: &mut AsyncPgConnection,
    store: &str,
    homes: &[&str],
    token: LeaseToken,
    object: ObjectId,
    is_there: bool,
) -> Result<bool> {
    if !is_there {
        let mut values = Values::default();
        let which = format!(
            "{} AND r.evict_reason IN ('leftover', 'surplus')",
            under_lease(&mut values, &[object], store, token)
        );
        values.query(&FINISH_EVICTION.delete("", &which)).execute(conn).await?;
    }
    let mut values = Values::default();
    let which = under_lease(&mut values, &[object], store, token);
    let back = CANCEL_EVICTION.update("", "", &which);
    let homes = values.texts(homes);
    let sql = format!(
        "WITH back AS ({back} RETURNING r.object_id, r.store), homes AS ( \
             UPDATE files f SET storage_location = b.store, synced_at = CASE WHEN b.store = ANY({homes}) THEN now() END \
             FROM back b JOIN file_versions v ON v.object_id = b.object_id \
             WHERE {is_there} AND f.id = v.file_id AND f.current_version = v.number AND f.storage_location <> b.store \
               AND (b.store = ANY({homes}) OR NOT {}) \
         ) SELECT 1 FROM back",
        has_verified("b.object_id", &format!("s.store = ANY({homes})")),
    );
    Ok(values.query(&sql).execute(conn).await? == 1)
}

/// Takes over evictions whose worker died, to finish them.
pub async fn reclaim_evictions(
    conn: &mut AsyncPgConnection,
    claim: &EvictionClaim<'_>,
) -> Result<Vec<Spare>> {
    let mut values = Values::default();
    let lease = claim.lease().set(&mut values);
    let which =
        format!("o.id = r.object_id AND r.store = {} AND r.lease_until < now()", values.text(claim.local));
    let sql = format!(
        "{} RETURNING r.object_id, o.key, o.size, r.last_used_at AS at",
        RENEW_EVICTION.update(&lease, "FROM objects o", &which)
    );
    Ok(values.query(&sql).load(conn).await?)
}

/// Renews the lease on an eviction. Returns whether it is still ours.
pub async fn renew_eviction(
    conn: &mut AsyncPgConnection,
    store: &str,
    token: LeaseToken,
    object: ObjectId,
    lease: Duration,
) -> Result<bool> {
    Ok(set_lease(conn, store, token, &[object], lease).await? == 1)
}

/// Lets go of evictions that were marked and not begun, for whoever comes next.
pub async fn let_go_of_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    token: LeaseToken,
    ids: &[ObjectId],
) -> Result<usize> {
    set_lease(conn, store, token, ids, Duration::ZERO).await
}

async fn set_lease(
    conn: &mut AsyncPgConnection,
    store: &str,
    token: LeaseToken,
    ids: &[ObjectId],
    lease: Duration,
) -> Result<usize> {
    let mut values = Values::default();
    let until = transitions::until(&mut values, lease);
    let which = under_lease(&mut values, ids, store, token);
    Ok(values.query(&RENEW_EVICTION.update(&until, "", &which)).execute(conn).await?)
}

/// Forgets replicas whose bytes were deleted from the store. What has no row in any of the stores `homes`, the cloud's, any
/// more has not crossed: it is not spare, and is planned for again. Returns how many.
pub async fn finish_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    homes: &[&str],
    token: LeaseToken,
    ids: &[ObjectId],
) -> Result<usize> {
    let mut values = Values::default();
    let which = under_lease(&mut values, ids, store, token);
    let (store, homes) = (values.text(store), values.texts(homes));
    let mended = NOTE_PRESENT.update(
        "spare_since = NULL",
        "FROM gone g",
        &format!(
            "r.object_id = g.object_id AND {store} = ANY({homes}) AND r.store <> ALL({homes}) AND r.spare_since IS NOT NULL \
             AND NOT EXISTS (SELECT 1 FROM replicas c WHERE c.object_id = r.object_id AND c.store = ANY({homes}) \
                             AND c.store <> {store})"
        ),
    );
    let sql = format!(
        "WITH gone AS ({} RETURNING r.object_id), mended AS ({mended}) SELECT object_id FROM gone",
        FINISH_EVICTION.delete("", &which)
    );
    Ok(values.query(&sql).execute(conn).await?)
}

/// Bytes that are present in a store.
pub async fn present_bytes(conn: &mut AsyncPgConnection, store: &str) -> Result<i64> {
    #[derive(QueryableByName)]
    struct Sum {
        #[diesel(sql_type = BigInt)]
        bytes: i64,
    }
    let sum: Sum = diesel::sql_query(
        "SELECT coalesce(sum(o.size), 0)::bigint AS bytes FROM replicas r JOIN objects o ON o.id = r.object_id \
         WHERE r.store = $1 AND r.state = 'present'",
    )
    .bind::<Text, _>(store)
    .get_result(conn)
    .await?;
    Ok(sum.bytes)
}
