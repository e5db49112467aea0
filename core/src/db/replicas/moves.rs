//! Replicas that move from one store to another, above all from one that is being emptied: what stands in the way, what
//! has another place already, what is queued for one, and what may go from here. Nothing here ends without another
//! verified replica, seen under its lock.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Double, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::Until;
use super::candidates::Among;
use super::evict::Spare;
use super::plan::Wanted;
use crate::db::enums::ReplicaState;
use crate::db::policy::Policy;
use crate::db::restores::READABLE;
use crate::db::runs::RunScope;
use crate::db::schema::sql_types::ReplicaState as ReplicaStateSql;
use crate::db::statement::Values;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, WorkerId};

/// The priority of copies into the cloud that are made at once, outside of any run; above that of every rule.
pub const MOVES: i16 = 1_000;
/// That of copies into a local store for nobody who waits: after all others.
pub const BEHIND: i16 = -1;
/// What stands as the rule of a copy that was made only because its store was emptied.
pub const DRAIN_RULE: &str = "drain";

/// A replica in a store that is being emptied, and how far it is on its way.
#[derive(Debug, Clone, QueryableByName)]
#[allow(clippy::struct_excessive_bools, reason = "answers to questions that are independent of each other")]
pub struct Leaving {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Its state here.
    #[diesel(sql_type = ReplicaStateSql)]
    pub state: ReplicaState,
    /// Whether one of its new stores holds a readable verified copy.
    #[diesel(sql_type = Bool)]
    pub is_safe: bool,
    /// Whether one is on its way there.
    #[diesel(sql_type = Bool)]
    pub is_on_its_way: bool,
    /// Whether one was given up not long ago.
    #[diesel(sql_type = Bool)]
    pub has_failed: bool,
    /// Whether there is a readable verified copy to make one from.
    #[diesel(sql_type = Bool)]
    pub has_a_source: bool,
    /// What the last try met.
    #[diesel(sql_type = Nullable<Text>)]
    pub last_error: Option<String>,
}

/// The next replicas of `store` in the order of their objects, each with how far it is on its way into the stores `to`. What
/// was given up there counts as failed for `patience`.
pub async fn leaving(
    conn: &mut AsyncPgConnection,
    store: &str,
    to: &[&str],
    patience: Duration,
    after: ObjectId,
    limit: i64,
) -> Result<Vec<Leaving>> {
    // First the batch, with its limit in the text so that the planner knows how small it is.
    let sql = format!(
        "WITH picked AS MATERIALIZED ( \
             SELECT r.object_id, r.state FROM replicas r \
             WHERE r.store = $1 AND r.object_id > $2 AND r.state IN ('present', 'lost', 'queued', 'failed') \
               AND r.verified_at IS NOT NULL \
               AND EXISTS (SELECT 1 FROM objects o WHERE o.id = r.object_id AND o.state = 'stored' OFFSET 0) \
             ORDER BY r.object_id LIMIT {limit} \
         ) \
         SELECT p.object_id, p.state, \
                EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = p.object_id AND s.store = ANY($3) \
                        AND s.state = 'present' AND {READABLE} OFFSET 0) AS is_safe, \
                EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = p.object_id AND s.store = ANY($3) \
                        AND s.state IN ('queued', 'copying', 'evicting') OFFSET 0) AS is_on_its_way, \
                EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = p.object_id AND s.store = ANY($3) \
                        AND s.state = 'failed' AND s.not_before > now() - make_interval(secs => $4) OFFSET 0) AS has_failed, \
                EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = p.object_id AND s.state = 'present' \
                        AND {READABLE} OFFSET 0) AS has_a_source, \
                (SELECT min(s.last_error) FROM replicas s WHERE s.object_id = p.object_id AND s.store = ANY($3) \
                 AND s.state IN ('queued', 'copying', 'failed')) AS last_error \
         FROM picked p ORDER BY p.object_id"
    );
    Ok(diesel::sql_query(sql)
        .bind::<Text, _>(store)
        .bind::<SqlUuid, _>(after)
        .bind::<Array<Text>, _>(to)
        .bind::<Double, _>(patience.as_secs_f64())
        .load(conn)
        .await?)
}

/// That nobody has ever claimed a copy `r`, so that nothing of it can lie in its store: whoever gives one back, or takes one
/// up again, sets another time.
pub(super) const UNTOUCHED: &str = "r.state = 'queued' AND r.verified_at IS NULL AND r.upload_id IS NULL AND r.attempts = 0 \
     AND r.abandoned = 0 AND r.last_error IS NULL AND r.not_before = r.queued_at";

/// Takes the copies `gone` (run, state before, size) out of the totals of the runs that carry them.
const OUT_OF_TOTALS: &str = "UPDATE runs SET files_total = files_total - g.files, bytes_total = bytes_total - g.bytes \
     FROM (SELECT run_id, count(*) AS files, coalesce(sum(size), 0)::bigint AS bytes FROM gone \
           WHERE state = 'queued' AND run_id IS NOT NULL GROUP BY run_id) g \
     WHERE runs.id = g.run_id AND runs.status = 'running'";

/// That the store `$1` is being emptied, and the store `$2` is not.
const MAY_MOVE: &str = "EXISTS (SELECT 1 FROM store_drains d WHERE d.store = $1) \
     AND NOT EXISTS (SELECT 1 FROM store_drains d WHERE d.store = $2)";

/// Queues copies of these objects for the store `to`, under the rule `rule`, or else that of the replica in `from`. What was
/// given up or lost there is tried again; what is there or on its way stays as it is. Does nothing when `from` is not being
/// emptied any more. Answers how many are queued by this.
pub async fn queue_moves(
    conn: &mut AsyncPgConnection,
    from: &str,
    to: &str,
    rule: Option<&str>,
    priority: i16,
    objects: &[ObjectId],
) -> Result<usize> {
    let sql = format!(
        "INSERT INTO replicas (object_id, store, state, rule, priority) \
         SELECT r.object_id, $2, 'queued', coalesce($3, r.rule), $4 FROM replicas r \
         JOIN objects o ON o.id = r.object_id AND o.state = 'stored' \
         WHERE r.store = $1 AND r.object_id = ANY($5) AND {MAY_MOVE} \
         ORDER BY r.object_id \
         ON CONFLICT (object_id, store) DO UPDATE SET state = 'queued', run_id = NULL, not_before = now(), attempts = 0, \
             abandoned = 0, queued_at = now(), priority = EXCLUDED.priority \
         WHERE replicas.state IN ('failed', 'lost')"
    );
    Ok(diesel::sql_query(sql)
        .bind::<Text, _>(from)
        .bind::<Text, _>(to)
        .bind::<Nullable<Text>, _>(rule)
        .bind::<SmallInt, _>(priority)
        .bind::<Array<SqlUuid>, _>(objects)
        .execute(conn)
        .await?)
}

/// Those of these objects that have no place in any of the stores `to`: neither there, nor on their way, nor given up just now.
pub async fn without_place(
    conn: &mut AsyncPgConnection,
    objects: &[ObjectId],
    to: &[&str],
) -> Result<Vec<ObjectId>> {
    let rows: Vec<Locked> = diesel::sql_query(
        "SELECT o.object_id FROM unnest($1::uuid[]) AS o (object_id) \
         WHERE NOT EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = o.object_id AND s.store = ANY($2) \
                           AND s.state IN ('queued', 'copying', 'present', 'evicting'))",
    )
    .bind::<Array<SqlUuid>, _>(objects)
    .bind::<Array<Text>, _>(to)
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.object_id).collect())
}

/// Copies of what leaves `from` that were given up in the stores `to` are tried again at once. Answers how many.
pub async fn retry_moves(conn: &mut AsyncPgConnection, from: &str, to: &[&str]) -> Result<usize> {
    Ok(diesel::sql_query(
        "UPDATE replicas t SET state = 'queued', run_id = NULL, not_before = now(), queued_at = now(), attempts = 0, \
                abandoned = 0 \
         FROM replicas r WHERE r.object_id = t.object_id AND r.store = $1 AND r.verified_at IS NOT NULL \
           AND t.store = ANY($2) AND t.state = 'failed'",
    )
    .bind::<Text, _>(from)
    .bind::<Array<Text>, _>(to)
    .execute(conn)
    .await?)
}

/// Queues copies of these objects wherever the policy wants them and they are not yet, to be made at once. What no rule
/// wants anywhere, or nobody's file is any more, is left out. Answers how many.
pub async fn queue_by_policy(
    conn: &mut AsyncPgConnection,
    from: &str,
    policy: &Policy<'_>,
    objects: &[ObjectId],
) -> Result<usize> {
    let (scope, mut queued) = (RunScope::default(), 0);
    let among = Among::Objects(objects.to_vec());
    for store in policy.targets() {
        let wanted = Wanted { policy, store, scope: &scope, until: Until::Now };
        let mut values = Values::default();
        let (from, store) = (values.text(from), values.text(store));
        let missing = format!(
            "NOT EXISTS (SELECT 1 FROM replicas d WHERE d.object_id = o.id AND d.store = {store} \
             AND d.state NOT IN ('failed', 'lost') {})",
            among.fence()
        );
        let select = wanted.select(&mut values, &among, &missing);
        let sql = format!(
            "INSERT INTO replicas (object_id, store, state, rule, storage_class, priority) \
             SELECT w.object_id, {store}, 'queued', w.rule, w.storage_class, {MOVES} FROM ({select}) w \
             WHERE EXISTS (SELECT 1 FROM store_drains d WHERE d.store = {from}) \
             ON CONFLICT (object_id, store) DO UPDATE SET state = 'queued', run_id = NULL, not_before = now(), \
                 attempts = 0, abandoned = 0, queued_at = now(), priority = EXCLUDED.priority \
             WHERE replicas.state IN ('failed', 'lost')"
        );
        queued += values.query(&sql).execute(conn).await?;
    }
    Ok(queued)
}

/// Copies that wait outside of any run only because a store was being emptied, and were never begun, are not wanted any
/// more. Answers how many.
pub async fn forget_moves(conn: &mut AsyncPgConnection) -> Result<usize> {
    Ok(diesel::sql_query(format!(
        "DELETE FROM replicas r WHERE {UNTOUCHED} AND r.run_id IS NULL AND (r.rule = '{DRAIN_RULE}' OR r.priority >= {MOVES})"
    ))
    .execute(conn)
    .await?)
}

/// What is queued for a store that is being emptied, and was never begun, is not wanted there any more. Answers how many.
pub async fn forget_waiting(conn: &mut AsyncPgConnection, store: &str) -> Result<i64> {
    let row: Count = diesel::sql_query(format!(
        "WITH gone AS ( \
             DELETE FROM replicas r USING objects o WHERE o.id = r.object_id AND r.store = $1 AND {UNTOUCHED} \
             RETURNING r.run_id, r.state, o.size \
         ), counted AS ({OUT_OF_TOTALS}) SELECT count(*) AS count FROM gone"
    ))
    .bind::<Text, _>(store)
    .get_result(conn)
    .await?;
    Ok(row.count)
}

/// What is queued for a store that is being emptied, and was begun before, waits outside of any run: no run can make it, and
/// none may wait for it.
pub async fn leave_runs(conn: &mut AsyncPgConnection, store: &str) -> Result<i64> {
    let row: Count = diesel::sql_query(format!(
        "WITH picked AS ( \
             SELECT r.object_id, r.run_id, r.state FROM replicas r \
             WHERE r.store = $1 AND r.state = 'queued' AND r.run_id IS NOT NULL ORDER BY r.object_id FOR UPDATE \
         ), gone AS ( \
             UPDATE replicas r SET run_id = NULL FROM picked p JOIN objects o ON o.id = p.object_id \
             WHERE r.object_id = p.object_id AND r.store = $1 RETURNING p.run_id, p.state, o.size \
         ), counted AS ({OUT_OF_TOTALS}) SELECT count(*) AS count FROM gone"
    ))
    .bind::<Text, _>(store)
    .get_result(conn)
    .await?;
    Ok(row.count)
}

/// Marks the next copies into a store that is being emptied that were begun and never proved: whatever lies there of them is
/// to be deleted. Answers those that are ours.
pub async fn claim_leftovers(
    conn: &mut AsyncPgConnection,
    terms: Departure<'_>,
    limit: i64,
) -> Result<Vec<Spare>> {
    Ok(diesel::sql_query(format!(
        "WITH picked AS ( \
             SELECT r.object_id, r.run_id, r.state FROM replicas r \
             WHERE r.store = $1 AND r.state IN ('queued', 'failed') AND r.verified_at IS NULL AND r.upload_id IS NULL \
               AND EXISTS (SELECT 1 FROM store_drains d WHERE d.store = $1) \
             ORDER BY r.object_id LIMIT $5 FOR UPDATE SKIP LOCKED \
         ), gone AS ( \
             UPDATE replicas r SET state = 'evicting', run_id = NULL, lease_token = $2, lease_worker = $3, \
                    lease_until = now() + make_interval(secs => $4) \
             FROM picked p JOIN objects o ON o.id = p.object_id AND o.state = 'stored' \
             WHERE r.object_id = p.object_id AND r.store = $1 \
             RETURNING r.object_id, o.key, o.size, r.last_used_at AS at, p.run_id, p.state \
         ), counted AS ({OUT_OF_TOTALS}) SELECT object_id, key, size, at FROM gone"
    ))
    .bind::<Text, _>(terms.store)
    .bind::<SqlUuid, _>(terms.token)
    .bind::<SqlUuid, _>(terms.worker)
    .bind::<Double, _>(terms.lease.as_secs_f64())
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// A copy that was broken off in the middle of a multipart upload.
#[derive(Debug, Clone, QueryableByName)]
pub struct BrokenOff {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Key in the store.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// The upload.
    #[diesel(sql_type = Text)]
    pub upload_id: String,
}

/// Copies into a store that were broken off and wait to be gone on with, at most `limit`.
pub async fn broken_off(conn: &mut AsyncPgConnection, store: &str, limit: i64) -> Result<Vec<BrokenOff>> {
    Ok(diesel::sql_query(
        "SELECT r.object_id, o.key, r.upload_id FROM replicas r JOIN objects o ON o.id = r.object_id \
         WHERE r.store = $1 AND r.state IN ('queued', 'failed') AND r.upload_id IS NOT NULL ORDER BY r.object_id LIMIT $2",
    )
    .bind::<Text, _>(store)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// A multipart upload into a store that is being emptied was aborted. Answers whether its copy was still broken off.
pub async fn forget_broken_off(conn: &mut AsyncPgConnection, store: &str, copy: &BrokenOff) -> Result<bool> {
    let changed = diesel::sql_query(
        "WITH forgotten AS ( \
             UPDATE replicas SET upload_id = NULL, part_size = NULL \
             WHERE object_id = $1 AND store = $2 AND upload_id = $3 AND state IN ('queued', 'failed') \
             RETURNING object_id, store \
         ), parts AS ( \
             DELETE FROM transfer_parts p USING forgotten f WHERE p.object_id = f.object_id AND p.store = f.store \
         ) SELECT 1 FROM forgotten",
    )
    .bind::<SqlUuid, _>(copy.object_id)
    .bind::<Text, _>(store)
    .bind::<Text, _>(&copy.upload_id)
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// On whose behalf replicas are evicted from a store that they leave.
#[derive(Debug, Clone, Copy)]
pub struct Departure<'a> {
    /// The store.
    pub store: &'a str,
    /// Where the replicas are instead.
    pub to: &'a [&'a str],
    /// The cloud's stores: homes for good.
    pub homes: &'a [&'a str],
    /// Who evicts.
    pub worker: WorkerId,
    /// Lease token.
    pub token: LeaseToken,
    /// Life of the lease.
    pub lease: Duration,
}

/// Marks replicas as `evicting` that leave their store, because it is being emptied or because they were to move to one of
/// the stores `to`, and that one of these holds, readable and verified. Both rows are locked, so that of
/// two evictions at once only one can win, and what others hold is left for later. Their files' home moves to another
/// verified replica. Part of a transaction. Answers those that are ours.
pub async fn claim_departures(
    conn: &mut AsyncPgConnection,
    terms: Departure<'_>,
    objects: &[ObjectId],
) -> Result<Vec<Spare>> {
    let locked: Vec<Locked> = diesel::sql_query(
        "SELECT r.object_id FROM replicas r WHERE r.store = $1 AND r.object_id = ANY($2) AND r.upload_id IS NULL \
         AND r.state IN ('present', 'lost', 'queued', 'failed') AND r.verified_at IS NOT NULL \
         ORDER BY r.object_id FOR UPDATE SKIP LOCKED",
    )
    .bind::<Text, _>(terms.store)
    .bind::<Array<SqlUuid>, _>(objects)
    .load(conn)
    .await?;
    let ids: Vec<ObjectId> = locked.into_iter().map(|row| row.object_id).collect();
    let safe: Vec<Locked> = diesel::sql_query(format!(
        "SELECT s.object_id FROM replicas s WHERE s.object_id = ANY($1) AND s.store = ANY($2) AND s.store <> $3 \
         AND s.state = 'present' AND {READABLE} ORDER BY s.object_id, s.store FOR UPDATE OF s SKIP LOCKED"
    ))
    .bind::<Array<SqlUuid>, _>(&ids)
    .bind::<Array<Text>, _>(terms.to)
    .bind::<Text, _>(terms.store)
    .load(conn)
    .await?;
    let ids: Vec<ObjectId> = safe.into_iter().map(|row| row.object_id).collect();
    // Looked at once more: under the locks neither row can change any more.
    let sql = format!(
        "WITH leaving AS ( \
             UPDATE replicas r SET state = 'evicting', run_id = NULL, lease_token = $4, lease_worker = $5, \
                    lease_until = now() + make_interval(secs => $6), \
                    moves_to = CASE WHEN EXISTS (SELECT 1 FROM store_drains d WHERE d.store = $3) THEN NULL ELSE r.moves_to END \
             FROM objects o WHERE o.id = r.object_id AND o.state = 'stored' AND r.object_id = ANY($1) AND r.store = $3 \
               AND r.state IN ('present', 'lost', 'queued', 'failed') \
               AND (EXISTS (SELECT 1 FROM store_drains d WHERE d.store = $3) \
                    OR (r.moves_to = ANY($2) AND NOT EXISTS (SELECT 1 FROM store_drains d WHERE d.store = r.moves_to))) \
               AND EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = r.object_id AND s.store = ANY($2) \
                           AND s.state = 'present' AND {READABLE}) \
             RETURNING r.object_id, o.key, o.size, r.last_used_at AS at \
         ), homes AS ( \
             UPDATE files f SET storage_location = h.store, synced_at = h.synced_at \
             FROM leaving l JOIN LATERAL ( \
                 SELECT s.store, CASE WHEN s.store = ANY($7) THEN s.verified_at END AS synced_at FROM replicas s \
                 WHERE s.object_id = l.object_id AND s.store <> $3 AND s.state = 'present' \
                 ORDER BY s.store <> ALL($7), s.store LIMIT 1 \
             ) h ON true JOIN file_versions v ON v.object_id = l.object_id \
             WHERE f.id = v.file_id AND f.current_version = v.number AND f.storage_location = $3 \
         ) SELECT object_id, key, size, at FROM leaving"
    );
    Ok(diesel::sql_query(sql)
        .bind::<Array<SqlUuid>, _>(&ids)
        .bind::<Array<Text>, _>(terms.to)
        .bind::<Text, _>(terms.store)
        .bind::<SqlUuid, _>(terms.token)
        .bind::<SqlUuid, _>(terms.worker)
        .bind::<Double, _>(terms.lease.as_secs_f64())
        .bind::<Array<Text>, _>(terms.homes)
        .load(conn)
        .await?)
}

#[derive(QueryableByName)]
struct Locked {
    #[diesel(sql_type = SqlUuid)]
    object_id: ObjectId,
}
