//! Copies that are freed: picked in the order in which they go, claimed under the locks that prove another one, looked
//! at again before each deletion, deleted, and forgotten.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Double, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::enums::ReplicaState;
use crate::db::restores::READABLE;
use crate::db::schema::replicas;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, WorkerId};

/// That no live file with this object as one of its versions is pinned. Here and below `OFFSET 0` keeps the planner from
/// reading the whole table once instead of a row for each copy of the batch.
const NOT_PINNED: &str = "NOT EXISTS (SELECT 1 FROM file_versions v JOIN files f ON f.id = v.file_id \
     WHERE v.object_id = r.object_id AND f.pinned AND f.deleted_at IS NULL OFFSET 0)";

/// That no copy in the cloud's stores `$2` is still to be made: the local one is its nearest source.
const NONE_PENDING: &str = "NOT EXISTS (SELECT 1 FROM replicas w WHERE w.object_id = r.object_id AND w.store = ANY($2) \
     AND w.state IN ('queued', 'copying', 'failed', 'lost') OFFSET 0)";

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
    let (column, which, rule, age) = match order {
        Order::Spare { rule, after } => ("spare_since", "r.free_rule = $7", rule, after),
        Order::LeastUsed => ("last_used_at", "NOT r.keep_local AND $7 = ''", "", Duration::ZERO),
    };
    let (at, object) = after.unwrap_or((DateTime::UNIX_EPOCH, ObjectId(uuid::Uuid::nil())));
    // First the batch from the index alone, with its limit in the text so that the planner knows how small it is.
    let sql = format!(
        "WITH picked AS MATERIALIZED ( \
             SELECT r.object_id, r.{column} AS at FROM replicas r \
             WHERE r.store = $1 AND r.state = 'present' AND r.spare_since IS NOT NULL AND r.moves_to IS NULL AND {which} \
               AND r.free_rule <> ALL($8) AND r.{column} <= now() - make_interval(secs => $4) \
               AND (r.{column}, r.object_id) > ($5, $6) AND {NOT_PINNED} AND {NONE_PENDING} \
               AND EXISTS (SELECT 1 FROM objects o WHERE o.id = r.object_id AND o.state = 'stored' OFFSET 0) \
               AND EXISTS (SELECT 1 FROM replicas c WHERE c.object_id = r.object_id AND c.store = ANY($2) \
                           AND c.state = 'present' AND c.verified_at <= now() - make_interval(secs => $3) OFFSET 0) \
             ORDER BY r.{column}, r.object_id LIMIT {limit} FOR UPDATE SKIP LOCKED \
         ) \
         SELECT p.object_id, o.key, o.size, p.at FROM picked p JOIN objects o ON o.id = p.object_id AND o.state = 'stored' \
         JOIN replicas c ON c.object_id = p.object_id AND c.store = ANY($2) AND c.state = 'present' \
              AND c.verified_at <= now() - make_interval(secs => $3) \
         ORDER BY p.at, p.object_id FOR UPDATE OF c SKIP LOCKED"
    );
    let mut spare: Vec<Spare> = diesel::sql_query(sql)
        .bind::<Text, _>(claim.local)
        .bind::<Array<Text>, _>(claim.clouds)
        .bind::<Double, _>(claim.grace.as_secs_f64())
        .bind::<Double, _>(age.as_secs_f64())
        .bind::<Timestamptz, _>(at)
        .bind::<SqlUuid, _>(object)
        .bind::<Text, _>(rule)
        .bind::<Array<Text>, _>(claim.keeping)
        .load(conn)
        .await?;
    // One that several of the cloud's stores hold comes once for each of them, all in a row.
    spare.dedup_by_key(|copy| copy.object_id);
    Ok(spare)
}

/// Marks locked copies as `evicting`. Everything is looked at once more: under the locks the other replica can change
/// no more, and a file that was pinned since they were picked is seen. Answers those that are ours to free.
pub async fn claim_evictions(
    conn: &mut AsyncPgConnection,
    claim: &EvictionClaim<'_>,
    ids: &[ObjectId],
) -> Result<Vec<ObjectId>> {
    let sql = format!(
        "UPDATE replicas r SET state = 'evicting', lease_token = $5, lease_worker = $6, \
                lease_until = now() + make_interval(secs => $7) \
         WHERE r.object_id = ANY($4) AND r.store = $1 AND r.state = 'present' AND r.moves_to IS NULL \
           AND {NOT_PINNED} AND {NONE_PENDING} \
           AND EXISTS (SELECT 1 FROM replicas c WHERE c.object_id = r.object_id AND c.store = ANY($2) \
                       AND c.state = 'present' AND c.verified_at <= now() - make_interval(secs => $3)) \
         RETURNING r.object_id"
    );
    let rows: Vec<Claimed> = diesel::sql_query(sql)
        .bind::<Text, _>(claim.local)
        .bind::<Array<Text>, _>(claim.clouds)
        .bind::<Double, _>(claim.grace.as_secs_f64())
        .bind::<Array<SqlUuid>, _>(ids)
        .bind::<SqlUuid, _>(claim.token)
        .bind::<SqlUuid, _>(claim.worker)
        .bind::<Double, _>(claim.lease.as_secs_f64())
        .load(conn)
        .await?;
    Ok(rows.into_iter().map(|row| row.object_id).collect())
}

#[derive(QueryableByName)]
struct Claimed {
    #[diesel(sql_type = SqlUuid)]
    object_id: ObjectId,
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
    let sql = format!(
        "SELECT ARRAY(SELECT s.store FROM replicas s \
                 WHERE s.object_id = r.object_id AND s.store <> r.store AND s.state = 'present' \
                   AND CASE WHEN r.moves_to IS NOT NULL THEN s.store = r.moves_to AND {READABLE} \
                       ELSE {NOT_PINNED} OR (s.store = ANY($4) AND {READABLE}) END \
                 ORDER BY s.store) AS others \
         FROM replicas r WHERE r.object_id = $1 AND r.store = $2 AND r.state = 'evicting' AND r.lease_token = $3"
    );
    let row: Option<Checked> = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(object)
        .bind::<Text, _>(store)
        .bind::<SqlUuid, _>(token)
        .bind::<Array<Text>, _>(moving_to)
        .get_result(conn)
        .await
        .optional()?;
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
/// Answers whether the copy was ours and has a row.
pub async fn call_eviction_off(
    conn: &mut AsyncPgConnection,
    store: &str,
    homes: &[&str],
    token: LeaseToken,
    object: ObjectId,
    is_there: bool,
) -> Result<bool> {
    if !is_there {
        diesel::delete(
            replicas::table
                .find((object, store))
                .filter(replicas::state.eq(ReplicaState::Evicting))
                .filter(replicas::lease_token.eq(token))
                .filter(replicas::verified_at.is_null()),
        )
        .execute(conn)
        .await?;
    }
    let changed = diesel::sql_query(
        "WITH back AS ( \
             UPDATE replicas SET lease_token = NULL, lease_until = NULL, lease_worker = NULL, state = 'present', \
                    verified_at = coalesce(verified_at, now()), last_error = NULL \
             WHERE object_id = $1 AND store = $2 AND state = 'evicting' AND lease_token = $3 \
             RETURNING object_id, store \
         ), homes AS ( \
             UPDATE files f SET storage_location = b.store, synced_at = CASE WHEN b.store = ANY($5) THEN now() END \
             FROM back b JOIN file_versions v ON v.object_id = b.object_id \
             WHERE $4 AND f.id = v.file_id AND f.current_version = v.number AND f.storage_location <> b.store \
               AND (b.store = ANY($5) OR NOT EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = b.object_id \
                    AND s.state = 'present' AND s.store = ANY($5))) \
         ) SELECT 1 FROM back",
    )
    .bind::<SqlUuid, _>(object)
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(token)
    .bind::<Bool, _>(is_there)
    .bind::<Array<Text>, _>(homes)
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Takes over evictions whose worker died, to finish them.
pub async fn reclaim_evictions(
    conn: &mut AsyncPgConnection,
    claim: &EvictionClaim<'_>,
) -> Result<Vec<Spare>> {
    Ok(diesel::sql_query(
        "UPDATE replicas r SET lease_token = $2, lease_worker = $3, \
                lease_until = now() + make_interval(secs => $4) \
         FROM objects o WHERE o.id = r.object_id AND r.store = $1 AND r.state = 'evicting' \
           AND r.lease_until < now() RETURNING r.object_id, o.key, o.size, r.last_used_at AS at",
    )
    .bind::<Text, _>(claim.local)
    .bind::<SqlUuid, _>(claim.token)
    .bind::<SqlUuid, _>(claim.worker)
    .bind::<Double, _>(claim.lease.as_secs_f64())
    .load(conn)
    .await?)
}

/// Renews the lease on an eviction. Answers whether it is still ours.
pub async fn renew_eviction(
    conn: &mut AsyncPgConnection,
    store: &str,
    token: LeaseToken,
    object: ObjectId,
    lease: Duration,
) -> Result<bool> {
    let changed = diesel::sql_query(
        "UPDATE replicas SET lease_until = now() + make_interval(secs => $4) \
         WHERE object_id = $1 AND store = $2 AND state = 'evicting' AND lease_token = $3",
    )
    .bind::<SqlUuid, _>(object)
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(token)
    .bind::<Double, _>(lease.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Lets go of evictions that were marked and not begun, for whoever comes next.
pub async fn let_go_of_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    token: LeaseToken,
    ids: &[ObjectId],
) -> Result<usize> {
    Ok(diesel::update(
        replicas::table
            .filter(replicas::object_id.eq_any(ids))
            .filter(replicas::store.eq(store))
            .filter(replicas::state.eq(ReplicaState::Evicting))
            .filter(replicas::lease_token.eq(token)),
    )
    .set(replicas::lease_until.eq(diesel::dsl::now))
    .execute(conn)
    .await?)
}

/// Forgets replicas whose bytes were deleted from the store. What has no row in any of the stores `homes`, the cloud's, any
/// more has not crossed: it is not spare, and is planned for again. Answers how many.
pub async fn finish_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    homes: &[&str],
    token: LeaseToken,
    ids: &[ObjectId],
) -> Result<usize> {
    let row: Forgotten = diesel::sql_query(
        "WITH gone AS ( \
             DELETE FROM replicas WHERE object_id = ANY($1) AND store = $2 AND state = 'evicting' AND lease_token = $3 \
             RETURNING object_id \
         ), mended AS ( \
             UPDATE replicas l SET spare_since = NULL FROM gone g \
             WHERE l.object_id = g.object_id AND $2 = ANY($4) AND l.store <> ALL($4) AND l.spare_since IS NOT NULL \
               AND NOT EXISTS (SELECT 1 FROM replicas c WHERE c.object_id = l.object_id AND c.store = ANY($4) \
                               AND c.store <> $2) \
         ) SELECT count(*) AS count FROM gone",
    )
    .bind::<Array<SqlUuid>, _>(ids)
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(token)
    .bind::<Array<Text>, _>(homes)
    .get_result(conn)
    .await?;
    Ok(usize::try_from(row.count).unwrap_or(0))
}

#[derive(QueryableByName)]
struct Forgotten {
    #[diesel(sql_type = BigInt)]
    count: i64,
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
