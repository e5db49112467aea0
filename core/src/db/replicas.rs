//! The `replicas` table: the map of what is where, and the queue of what is to be moved. Plans are set-based,
//! claims cost the size of the batch, and every finishing UPDATE is guarded by the lease token.
//!
//! Leases and delays are counted by the database's clock, the one that all workers share.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{
    Array, BigInt, Bytea, Double, Integer, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::enums::ReplicaState;
use super::prepared::Prepared;
use super::runs::RunScope;
use super::schema::replicas;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, RunId, WorkerId};

/// The run that a copy `r` goes back to: its own, unless that one stops, or the object is on its way out and must
/// not keep a run from ending.
const RUN_TO_GO_BACK_TO: &str = "(SELECT u.id FROM runs u, objects o WHERE u.id = r.run_id AND u.status = 'running' \
     AND u.cancel_requested_at IS NULL AND u.error IS NULL AND o.id = r.object_id AND o.state = 'stored')";

/// After so many leases that ran out on it, a replica is given up: it seems to kill its workers.
const MOST_ABANDONED: i32 = 20;

/// Where an object should be, and how far that is true.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = replicas, check_for_backend(diesel::pg::Pg))]
pub struct Replica {
    /// Object.
    pub object_id: ObjectId,
    /// Store.
    pub store: String,
    /// State.
    pub state: ReplicaState,
    /// As the store answered.
    pub etag: Option<String>,
    /// Why it should be there.
    pub rule: Option<String>,
    /// Run it belongs to.
    pub run_id: Option<RunId>,
    /// Failed tries since it was queued.
    pub attempts: i32,
    /// Not tried again before this.
    pub not_before: DateTime<Utc>,
    /// What the last try met.
    pub last_error: Option<String>,
    /// When it was proved.
    pub verified_at: Option<DateTime<Utc>>,
}

/// A replica that this worker may copy until the lease ends, with all it needs to know of the object.
#[derive(Debug, Clone, QueryableByName)]
pub struct Claim {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Destination.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// Failed tries so far.
    #[diesel(sql_type = Integer)]
    pub attempts: i32,
    /// Multipart upload to resume.
    #[diesel(sql_type = Nullable<Text>)]
    pub upload_id: Option<String>,
    /// Part size of that upload, in bytes.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub part_size: Option<i64>,
    /// Storage class wanted.
    #[diesel(sql_type = Nullable<Text>)]
    pub storage_class: Option<String>,
    /// Key in every store.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// Size in bytes.
    #[diesel(sql_type = BigInt)]
    pub size: i64,
    /// SHA-256 recorded at upload.
    #[diesel(sql_type = Bytea)]
    pub sha256: Vec<u8>,
    /// CRC-64/NVME recorded at upload.
    #[diesel(sql_type = Bytea)]
    pub crc64nvme: Vec<u8>,
    /// CRC-64/NVME of each block, recorded at upload.
    #[diesel(sql_type = Nullable<Bytea>)]
    pub block_crcs: Option<Vec<u8>>,
    /// MIME type.
    #[diesel(sql_type = Text)]
    pub content_type: String,
    /// Owner, written to the object's metadata.
    #[diesel(sql_type = SqlUuid)]
    pub owner_id: crate::ids::UserId,
    /// When the bytes were acknowledged.
    #[diesel(sql_type = Timestamptz)]
    pub stored_at: DateTime<Utc>,
    /// A file that has this object as a version.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub file_id: Option<crate::ids::FileId>,
    /// Its name.
    #[diesel(sql_type = Nullable<Text>)]
    pub filename: Option<String>,
    /// The version's number.
    #[diesel(sql_type = Nullable<Integer>)]
    pub version: Option<i32>,
    /// Stores that hold a verified replica.
    #[diesel(sql_type = Array<Text>)]
    pub sources: Vec<String>,
}

/// What a plan added to a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Planned {
    /// Copies to make.
    #[diesel(sql_type = BigInt)]
    pub files: i64,
    /// Bytes to move.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
}

/// The versions of live files within the scope; `$3` user, `$4` folder, `$5` files are bound by the callers.
/// Only the conditions that are asked for appear, so that each scope gets a plan of its own.
fn scope_sql(scope: &RunScope) -> String {
    let mut sql = "SELECT v.object_id FROM file_versions v JOIN files f ON f.id = v.file_id \
                   WHERE f.deleted_at IS NULL"
        .to_owned();
    // Every parameter is mentioned, so that the number bound is the same for each scope.
    sql += if scope.user_id.is_some() { " AND f.owner_id = $3" } else { " AND $3::uuid IS NULL" };
    sql += if scope.folder_id.is_some() { " AND f.folder_id = $4" } else { " AND $4::uuid IS NULL" };
    sql += if scope.file_ids.is_some() { " AND f.id = ANY($5)" } else { " AND $5::uuid[] IS NULL" };
    sql
}

/// Up to when an object must have been acknowledged to be in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Before the run was asked for: the classic nightly rule.
    RunRequested,
    /// By now: for what joins a run that is already going.
    Now,
}

/// Queues for `store` every acknowledged object in the scope that is not there yet, and takes over what earlier runs left queued. Idempotent.
///
/// Part of a transaction: lifts the statement timeout for it, because a plan may cover millions of rows.
pub async fn plan_until(
    conn: &mut AsyncPgConnection,
    run: RunId,
    store: &str,
    scope: &RunScope,
    until: Until,
) -> Result<Planned> {
    diesel::sql_query("SET LOCAL statement_timeout = '15min'").execute(conn).await?;
    let scoped = scope_sql(scope);
    let until = match until {
        Until::RunRequested => "o.stored_at <= (SELECT created_at FROM runs WHERE id = $1)",
        Until::Now => "true",
    };
    let insert = format!(
        "INSERT INTO replicas (object_id, store, state, run_id, rule) \
         SELECT o.id, $2, 'queued', $1, 'default' FROM objects o \
         WHERE o.state = 'stored' AND {until} \
           AND o.id IN ({scoped}) \
           AND EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = o.id AND s.state = 'present' AND s.store <> $2) \
           AND NOT EXISTS (SELECT 1 FROM replicas d WHERE d.object_id = o.id AND d.store = $2) \
         ON CONFLICT DO NOTHING"
    );
    // Given up ones come back when asked for: all of them, or the files that were named.
    let again = if scope.retry_failed || scope.file_ids.is_some() {
        "r.state IN ('failed', 'lost')"
    } else {
        "r.state = 'lost'"
    };
    let adopt = format!(
        "UPDATE replicas r SET state = 'queued', run_id = $1, not_before = now(), \
                attempts = CASE WHEN r.state = 'queued' THEN r.attempts ELSE 0 END, \
                abandoned = CASE WHEN r.state = 'queued' THEN r.abandoned ELSE 0 END \
         FROM objects o WHERE o.id = r.object_id AND o.state = 'stored' AND r.store = $2 \
           AND ((r.state = 'queued' AND r.run_id IS DISTINCT FROM $1) OR {again}) \
           AND EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = o.id AND s.state = 'present' AND s.store <> $2) \
           AND r.object_id IN ({scoped})"
    );
    for sql in [insert, adopt] {
        diesel::sql_query(sql)
            .bind::<SqlUuid, _>(run)
            .bind::<Text, _>(store)
            .bind::<Nullable<SqlUuid>, _>(scope.user_id)
            .bind::<Nullable<SqlUuid>, _>(scope.folder_id)
            .bind::<Nullable<Array<SqlUuid>>, _>(scope.file_ids.as_ref())
            .execute(conn)
            .await?;
    }
    queued_in(conn, run).await
}

/// What is queued for a run at this moment.
pub async fn queued_in(conn: &mut AsyncPgConnection, run: RunId) -> Result<Planned> {
    Ok(diesel::sql_query(
        "SELECT count(*) AS files, coalesce(sum(o.size), 0)::bigint AS bytes \
         FROM replicas r JOIN objects o ON o.id = r.object_id WHERE r.run_id = $1 AND r.state = 'queued'",
    )
    .bind::<SqlUuid, _>(run)
    .get_result(conn)
    .await?)
}

/// Claims the next batch of a run for a worker: short, skips what others are claiming, and costs the size of the
/// batch whatever the backlog.
pub async fn claim(
    conn: &mut AsyncPgConnection,
    run: RunId,
    worker: WorkerId,
    token: LeaseToken,
    limit: i64,
    lease: Duration,
) -> Result<Vec<Claim>> {
    // The limit stands in the text: with it the one plan that is kept knows that a batch is small.
    let sql = format!(
        "WITH next AS ( \
             SELECT object_id, store FROM replicas \
             WHERE run_id = $1 AND state = 'queued' AND not_before <= now() \
             ORDER BY priority DESC, not_before, object_id LIMIT {limit} FOR UPDATE SKIP LOCKED \
         ) \
         UPDATE replicas r SET state = 'copying', lease_token = $2, lease_worker = $3, \
                lease_until = now() + make_interval(secs => $4) \
         FROM next JOIN objects o ON o.id = next.object_id \
         LEFT JOIN LATERAL ( \
             SELECT v.file_id, v.number, f.filename FROM file_versions v JOIN files f ON f.id = v.file_id \
             WHERE v.object_id = o.id ORDER BY v.created_at LIMIT 1 \
         ) named ON true \
         WHERE r.object_id = next.object_id AND r.store = next.store AND o.state = 'stored' \
         RETURNING r.object_id, r.store, r.attempts, r.upload_id, r.part_size, r.storage_class, o.key, o.size, \
             o.sha256, o.crc64nvme, o.block_crcs, o.content_type, o.owner_id, o.stored_at, \
             named.file_id, named.filename, named.number AS version, \
             ARRAY(SELECT s.store FROM replicas s WHERE s.object_id = o.id AND s.state = 'present') AS sources"
    );
    let query = diesel::sql_query(sql)
        .bind::<SqlUuid, _>(run)
        .bind::<SqlUuid, _>(token)
        .bind::<SqlUuid, _>(worker)
        .bind::<Double, _>(lease.as_secs_f64());
    Ok(Prepared(query).load(conn).await?)
}

/// Renews the leases that a worker is still working under. One that has run out is renewed too, as long as nobody
/// took it: after the database was away, the work goes on. What the worker no longer works on must not be named
/// here: it is found by its lease running out.
pub async fn renew_leases(
    conn: &mut AsyncPgConnection,
    worker: WorkerId,
    tokens: &[LeaseToken],
    lease: Duration,
) -> Result<usize> {
    Ok(diesel::sql_query(
        "UPDATE replicas SET lease_until = now() + make_interval(secs => $2) \
         WHERE state = 'copying' AND lease_worker = $1 AND lease_token = ANY($3)",
    )
    .bind::<SqlUuid, _>(worker)
    .bind::<Double, _>(lease.as_secs_f64())
    .bind::<Array<SqlUuid>, _>(tokens)
    .execute(conn)
    .await?)
}

/// Puts copies whose lease ran out back into the queue, keeping what they had finished. One that was abandoned
/// too often is given up instead. Answers how many were touched.
pub async fn reclaim_expired(conn: &mut AsyncPgConnection) -> Result<usize> {
    Ok(diesel::sql_query(format!(
        "WITH expired AS ( \
             SELECT object_id, store FROM replicas WHERE state = 'copying' AND lease_until < now() \
             FOR UPDATE SKIP LOCKED \
         ), touched AS ( \
             UPDATE replicas r SET \
                 state = CASE WHEN r.abandoned + 1 >= $1 THEN 'failed' ELSE 'queued' END::replica_state, \
                 abandoned = r.abandoned + 1, \
                 not_before = now(), last_error = 'the worker that copied it stopped answering', \
                 lease_token = NULL, lease_until = NULL, lease_worker = NULL, \
                 run_id = {RUN_TO_GO_BACK_TO} \
             FROM expired e WHERE r.object_id = e.object_id AND r.store = e.store \
             RETURNING r.object_id, r.store, r.state, r.run_id, r.abandoned, r.last_error \
         ), given_up AS ( \
             INSERT INTO run_failures (id, run_id, object_id, store, attempts, error) \
             SELECT gen_random_uuid(), run_id, object_id, store, abandoned, last_error FROM touched \
             WHERE state = 'failed' AND run_id IS NOT NULL RETURNING run_id \
         ), counted AS ( \
             UPDATE runs SET files_failed = files_failed + g.n \
             FROM (SELECT run_id, count(*) AS n FROM given_up GROUP BY run_id) g WHERE runs.id = g.run_id \
         ) SELECT 1 FROM touched",
    ))
    .bind::<Integer, _>(MOST_ABANDONED)
    .execute(conn)
    .await?)
}

/// A copy that was made and proved, waiting to be committed.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Object.
    pub object_id: ObjectId,
    /// Destination.
    pub store: String,
    /// The lease it was made under.
    pub token: LeaseToken,
    /// As the destination answered.
    pub etag: String,
    /// Size in bytes.
    pub size: i64,
}

/// Switches copies to `present` and moves their files' home. Answers the copies that were still ours: for the
/// others the lease was lost or the object was removed meanwhile, and nothing was changed.
pub async fn finish(conn: &mut AsyncPgConnection, copies: &[Finished]) -> Result<Vec<Switched>> {
    let ids: Vec<ObjectId> = copies.iter().map(|copy| copy.object_id).collect();
    let stores: Vec<&str> = copies.iter().map(|copy| copy.store.as_str()).collect();
    let tokens: Vec<LeaseToken> = copies.iter().map(|copy| copy.token).collect();
    let etags: Vec<&str> = copies.iter().map(|copy| copy.etag.as_str()).collect();
    let query = diesel::sql_query(
        "WITH done AS ( \
             SELECT * FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::text[]) AS d (object_id, store, token, etag) \
         ), switched AS ( \
             UPDATE replicas r SET state = 'present', verified_at = now(), etag = done.etag, attempts = 0, \
                    abandoned = 0, last_error = NULL, upload_id = NULL, part_size = NULL, \
                    lease_token = NULL, lease_until = NULL, lease_worker = NULL \
             FROM done JOIN objects o ON o.id = done.object_id \
             WHERE r.object_id = done.object_id AND r.store = done.store AND r.state = 'copying' \
               AND r.lease_token = done.token AND o.state = 'stored' \
             RETURNING r.object_id, r.store, r.run_id, o.size \
         ), homes AS ( \
             UPDATE files f SET storage_location = s.store, synced_at = now() \
             FROM switched s JOIN file_versions v ON v.object_id = s.object_id \
             WHERE f.id = v.file_id AND f.current_version = v.number \
         ), forgotten AS ( \
             DELETE FROM transfer_parts p USING switched s WHERE p.object_id = s.object_id AND p.store = s.store \
         ), counted AS ( \
             UPDATE runs SET files_done = files_done + c.files, bytes_done = bytes_done + c.bytes \
             FROM (SELECT run_id, count(*) AS files, sum(size)::bigint AS bytes FROM switched GROUP BY run_id) c \
             WHERE runs.id = c.run_id \
         ) SELECT object_id, store, run_id FROM switched",
    )
    .bind::<Array<SqlUuid>, _>(&ids)
    .bind::<Array<Text>, _>(&stores)
    .bind::<Array<SqlUuid>, _>(&tokens)
    .bind::<Array<Text>, _>(&etags);
    Ok(Prepared(query).load(conn).await?)
}

/// A copy that [`finish`] switched.
#[derive(Debug, Clone, QueryableByName)]
pub struct Switched {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Store.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// Run that it was counted for.
    #[diesel(sql_type = Nullable<SqlUuid>)]
    pub run_id: Option<RunId>,
}

/// Records a failed try: back to the queue after `delay`, or `failed` for good when `give_up` or when the
/// attempts are used up. Answers the new state and the number of attempts, or none when the lease was lost.
pub async fn fail(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    token: LeaseToken,
    failure: &Failure<'_>,
) -> Result<Option<(ReplicaState, i32)>> {
    let row: Option<Failed> = diesel::sql_query(format!(
        "UPDATE replicas r SET attempts = attempts + 1, last_error = $4, \
                state = CASE WHEN $5 OR attempts + 1 >= $6 THEN 'failed' ELSE 'queued' END::replica_state, \
                not_before = now() + make_interval(secs => $7), \
                run_id = CASE WHEN $5 OR attempts + 1 >= $6 THEN run_id ELSE {RUN_TO_GO_BACK_TO} END, \
                lease_token = NULL, lease_until = NULL, lease_worker = NULL \
         WHERE object_id = $1 AND store = $2 AND state = 'copying' AND lease_token = $3 \
         RETURNING state, attempts",
    ))
    .bind::<SqlUuid, _>(object)
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(token)
    .bind::<Text, _>(failure.error)
    .bind::<diesel::sql_types::Bool, _>(failure.give_up)
    .bind::<Integer, _>(failure.max_attempts)
    .bind::<Double, _>(failure.delay.as_secs_f64())
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.map(|row| (row.state, row.attempts)))
}

/// What a try met.
#[derive(Debug)]
pub struct Failure<'a> {
    /// In words.
    pub error: &'a str,
    /// Whether trying again is pointless.
    pub give_up: bool,
    /// Tries in all.
    pub max_attempts: i32,
    /// Before the next try.
    pub delay: Duration,
}

#[derive(QueryableByName)]
struct Failed {
    #[diesel(sql_type = super::schema::sql_types::ReplicaState)]
    state: ReplicaState,
    #[diesel(sql_type = Integer)]
    attempts: i32,
}

/// Gives claimed copies back without counting a try: the worker drains, the run was stopped, or the whole store
/// is in trouble. `delay` keeps them from being claimed again at once.
pub async fn release(
    conn: &mut AsyncPgConnection,
    token: LeaseToken,
    objects: &[ObjectId],
    error: Option<&str>,
    delay: Duration,
) -> Result<usize> {
    Ok(diesel::sql_query(format!(
        "UPDATE replicas r SET state = 'queued', lease_token = NULL, lease_until = NULL, lease_worker = NULL, \
                last_error = coalesce($3, last_error), not_before = now() + make_interval(secs => $4), \
                run_id = {RUN_TO_GO_BACK_TO} \
         WHERE lease_token = $1 AND state = 'copying' AND object_id = ANY($2)",
    ))
    .bind::<SqlUuid, _>(token)
    .bind::<Array<SqlUuid>, _>(objects)
    .bind::<Nullable<Text>, _>(error)
    .bind::<Double, _>(delay.as_secs_f64())
    .execute(conn)
    .await?)
}

/// Takes what is only queued out of a run that stops. It stays queued, for the next run.
pub async fn unassign(conn: &mut AsyncPgConnection, run: RunId) -> Result<usize> {
    Ok(diesel::update(
        replicas::table.filter(replicas::run_id.eq(run)).filter(replicas::state.eq(ReplicaState::Queued)),
    )
    .set(replicas::run_id.eq(None::<RunId>))
    .execute(conn)
    .await?)
}

/// Remembers the multipart upload of a copy, so that whoever claims it next resumes it. Answers whether the
/// lease still holds.
pub async fn begin_multipart(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    token: LeaseToken,
    upload_id: Option<&str>,
    part_size: Option<i64>,
) -> Result<bool> {
    let changed = diesel::sql_query(
        "UPDATE replicas SET upload_id = $4, part_size = $5 \
         WHERE object_id = $1 AND store = $2 AND state = 'copying' AND lease_token = $3",
    )
    .bind::<SqlUuid, _>(object)
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(token)
    .bind::<Nullable<Text>, _>(upload_id)
    .bind::<Nullable<BigInt>, _>(part_size)
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Forgets the multipart upload of a copy that was given up.
pub async fn forget_multipart(conn: &mut AsyncPgConnection, object: ObjectId, store: &str) -> Result<()> {
    diesel::update(replicas::table.find((object, store)).filter(replicas::state.eq(ReplicaState::Failed)))
        .set((replicas::upload_id.eq(None::<String>), replicas::part_size.eq(None::<i64>)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Whether the worker still holds the lease.
pub async fn holds_lease(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    token: LeaseToken,
) -> Result<bool> {
    Ok(diesel::select(diesel::dsl::exists(
        replicas::table
            .find((object, store))
            .filter(replicas::state.eq(ReplicaState::Copying))
            .filter(replicas::lease_token.eq(token)),
    ))
    .get_result(conn)
    .await?)
}

/// A replica that should be there is missing or corrupt.
pub async fn mark_lost(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    error: &str,
) -> Result<bool> {
    let changed = diesel::update(
        replicas::table.find((object, store)).filter(replicas::state.eq(ReplicaState::Present)),
    )
    .set((replicas::state.eq(ReplicaState::Lost), replicas::last_error.eq(error)))
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// All replicas of some objects.
pub async fn of_objects(conn: &mut AsyncPgConnection, ids: &[ObjectId]) -> Result<Vec<Replica>> {
    Ok(replicas::table
        .filter(replicas::object_id.eq_any(ids))
        .order((replicas::object_id, replicas::store))
        .select(Replica::as_select())
        .load(conn)
        .await?)
}

/// Number and bytes of replicas by store and state. Reads the whole table: cache it.
#[derive(Debug, Clone, QueryableByName)]
pub struct StateCount {
    /// Store.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// State.
    #[diesel(sql_type = super::schema::sql_types::ReplicaState)]
    pub state: ReplicaState,
    /// Replicas.
    #[diesel(sql_type = BigInt)]
    pub replicas: i64,
    /// Bytes.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
}

/// See [`StateCount`].
pub async fn count_by_state(conn: &mut AsyncPgConnection) -> Result<Vec<StateCount>> {
    Ok(diesel::sql_query(
        "SELECT r.store, r.state, count(*) AS replicas, coalesce(sum(o.size), 0)::bigint AS bytes \
         FROM replicas r JOIN objects o ON o.id = r.object_id GROUP BY r.store, r.state ORDER BY r.store, r.state",
    )
    .load(conn)
    .await?)
}

/// When the next queued copy of a run is due, for a run that waits.
pub async fn next_due(conn: &mut AsyncPgConnection, run: RunId) -> Result<Option<DateTime<Utc>>> {
    Ok(replicas::table
        .filter(replicas::run_id.eq(run))
        .filter(replicas::state.eq(ReplicaState::Queued))
        .select(diesel::dsl::min(replicas::not_before))
        .first(conn)
        .await?)
}

/// The multipart uploads of an object's unfinished copies: (store, upload id).
pub async fn open_multiparts(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
) -> Result<Vec<(String, String)>> {
    Ok(replicas::table
        .filter(replicas::object_id.eq(object))
        .filter(replicas::upload_id.is_not_null())
        .select((replicas::store, replicas::upload_id.assume_not_null()))
        .load(conn)
        .await?)
}

/// Which copies to free, and under which lease.
#[derive(Debug)]
pub struct EvictionClaim<'a> {
    /// Store to free.
    pub local: &'a str,
    /// Store that must hold a verified replica.
    pub cloud: &'a str,
    /// Since at least this long.
    pub after: Duration,
    /// Who frees.
    pub worker: WorkerId,
    /// Lease token.
    pub token: LeaseToken,
    /// Life of the lease.
    pub lease: Duration,
}

/// Marks present copies that may be freed as `evicting`: verified elsewhere for long enough, of files that nobody
/// pinned. The other replica is seen under a row lock, so that of two evictions at once only one can win.
pub async fn claim_evictions(
    conn: &mut AsyncPgConnection,
    claim: &EvictionClaim<'_>,
    limit: i64,
) -> Result<Vec<(ObjectId, String)>> {
    let rows: Vec<Evicting> = diesel::sql_query(
        "WITH candidates AS ( \
             SELECT l.object_id FROM replicas l \
             JOIN replicas c ON c.object_id = l.object_id AND c.store = $2 AND c.state = 'present' \
                  AND c.verified_at <= now() - make_interval(secs => $3) \
             WHERE l.store = $1 AND l.state = 'present' \
               AND NOT EXISTS (SELECT 1 FROM file_versions v JOIN files f ON f.id = v.file_id \
                               WHERE v.object_id = l.object_id AND f.pinned) \
             LIMIT $4 FOR UPDATE OF l, c SKIP LOCKED \
         ) \
         UPDATE replicas r SET state = 'evicting', lease_token = $5, lease_worker = $6, \
                lease_until = now() + make_interval(secs => $7) \
         FROM candidates n JOIN objects o ON o.id = n.object_id \
         WHERE r.object_id = n.object_id AND r.store = $1 AND r.state = 'present' \
         RETURNING r.object_id, o.key",
    )
    .bind::<Text, _>(claim.local)
    .bind::<Text, _>(claim.cloud)
    .bind::<Double, _>(claim.after.as_secs_f64())
    .bind::<BigInt, _>(limit)
    .bind::<SqlUuid, _>(claim.token)
    .bind::<SqlUuid, _>(claim.worker)
    .bind::<Double, _>(claim.lease.as_secs_f64())
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.object_id, row.key)).collect())
}

/// Takes over evictions whose worker died, to finish them.
pub async fn reclaim_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    worker: WorkerId,
    token: LeaseToken,
    lease: Duration,
) -> Result<Vec<(ObjectId, String)>> {
    let rows: Vec<Evicting> = diesel::sql_query(
        "UPDATE replicas r SET lease_token = $2, lease_worker = $3, \
                lease_until = now() + make_interval(secs => $4) \
         FROM objects o WHERE o.id = r.object_id AND r.store = $1 AND r.state = 'evicting' \
           AND r.lease_until < now() RETURNING r.object_id, o.key",
    )
    .bind::<Text, _>(store)
    .bind::<SqlUuid, _>(token)
    .bind::<SqlUuid, _>(worker)
    .bind::<Double, _>(lease.as_secs_f64())
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| (row.object_id, row.key)).collect())
}

#[derive(QueryableByName)]
struct Evicting {
    #[diesel(sql_type = SqlUuid)]
    object_id: ObjectId,
    #[diesel(sql_type = Text)]
    key: String,
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

/// Forgets replicas whose bytes were deleted from the store.
pub async fn finish_evictions(
    conn: &mut AsyncPgConnection,
    store: &str,
    token: LeaseToken,
    ids: &[ObjectId],
) -> Result<usize> {
    Ok(diesel::delete(
        replicas::table
            .filter(replicas::object_id.eq_any(ids))
            .filter(replicas::store.eq(store))
            .filter(replicas::state.eq(ReplicaState::Evicting))
            .filter(replicas::lease_token.eq(token)),
    )
    .execute(conn)
    .await?)
}
