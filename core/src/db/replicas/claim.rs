//! The right to copy: claimed in batches that cost their own size whatever the backlog, renewed while bytes move,
//! and taken back when it runs out. Counted by the database's clock, the one that all workers share.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{
    Array, BigInt, Bytea, Double, Integer, Jsonb, Nullable, SmallInt, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::RUN_TO_GO_BACK_TO;
use crate::db::enums::ReplicaState;
use crate::db::labels::ABOUT_OBJECT;
use crate::db::prepared::Prepared;
use crate::db::restores::READABLE;
use crate::db::schema::replicas;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, RunId, UserId, WorkerId};

/// After so many leases that ran out on it, a replica is given up: it seems to kill its workers.
const MOST_ABANDONED: i32 = 20;

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
    /// Key that this upload is encrypted with, if it is.
    #[diesel(sql_type = Nullable<Text>)]
    pub key_id: Option<String>,
    /// See [`crate::encryption::Seal`].
    #[diesel(sql_type = Nullable<Bytea>)]
    pub envelope: Option<Vec<u8>>,
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
    pub owner_id: UserId,
    /// When the bytes were acknowledged.
    #[diesel(sql_type = Timestamptz)]
    pub stored_at: DateTime<Utc>,
    /// What else is written on the object: see [`crate::db::labels`].
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub about: Option<serde_json::Value>,
    /// Stores that hold a verified replica and are not known to be down.
    #[diesel(sql_type = Array<Text>)]
    pub sources: Vec<String>,
}

/// On whose behalf a batch is claimed, and what is left out of it.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// Who claims.
    pub worker: WorkerId,
    /// Lease token.
    pub token: LeaseToken,
    /// Copies at most.
    pub limit: i64,
    /// Life of the lease.
    pub lease: Duration,
    /// Stores that are down: nothing is copied into them, and nothing of which they hold the only readable copies.
    pub down: &'a [String],
}

/// Claims the next batch of a run for a worker, what was queued first: short, skips what others are claiming, and
/// costs the size of the batch whatever the backlog. While a store is down, what is queued for it is read over.
pub async fn claim(conn: &mut AsyncPgConnection, run: RunId, terms: Terms<'_>) -> Result<Vec<Claim>> {
    claim_next(conn, "not_before <= now()", "not_before", run, terms).await
}

/// As [`claim`], by size, of what has not failed yet and whose size [`super::note_sizes`] noted; nothing else.
pub async fn claim_by_size(
    conn: &mut AsyncPgConnection,
    largest_first: bool,
    run: RunId,
    terms: Terms<'_>,
) -> Result<Vec<Claim>> {
    let order = if largest_first { "object_size DESC" } else { "object_size" };
    let which = "attempts = 0 AND object_size IS NOT NULL AND not_before <= now()";
    claim_next(conn, which, order, run, terms).await
}

/// That a copy `q` can be made now: its store is not being emptied. While stores are `down`, also that its store is none of
/// them and that another one holds a readable copy. Nothing is asked of the sources while all stores are well, and `OFFSET 0`
/// keeps the planner from taking the exception for the rule: it believes that a join leaves next to nothing of the queue.
fn can_be_made(down: &[String]) -> String {
    let kept = "NOT EXISTS (SELECT 1 FROM store_drains d WHERE d.store = q.store OFFSET 0)";
    if down.is_empty() {
        return kept.to_owned();
    }
    format!(
        "{kept} AND q.store <> ALL($5) AND EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = q.object_id \
             AND s.store <> q.store AND s.state = 'present' AND s.store <> ALL($5) AND {READABLE} OFFSET 0)"
    )
}

async fn claim_next(
    conn: &mut AsyncPgConnection,
    which: &str,
    order: &str,
    run: RunId,
    terms: Terms<'_>,
) -> Result<Vec<Claim>> {
    // The limit stands in the text: with it the one plan that is kept knows that a batch is small.
    let next = format!(
        "SELECT q.object_id, q.store FROM replicas q \
         WHERE q.run_id = $1 AND q.state = 'queued' AND {which} AND {} \
         ORDER BY q.priority DESC, {order}, q.object_id LIMIT {} FOR UPDATE OF q SKIP LOCKED",
        can_be_made(terms.down),
        terms.limit,
    );
    let query = diesel::sql_query(claiming(&next))
        .bind::<SqlUuid, _>(run)
        .bind::<SqlUuid, _>(terms.token)
        .bind::<SqlUuid, _>(terms.worker)
        .bind::<Double, _>(terms.lease.as_secs_f64())
        .bind::<Array<Text>, _>(terms.down);
    Ok(Prepared(query).load(conn).await?)
}

/// Claims the next copies into `store` that are wanted outside of any run and have at least this priority, in the same
/// way.
pub async fn claim_on_demand(
    conn: &mut AsyncPgConnection,
    store: &str,
    least_priority: i16,
    terms: Terms<'_>,
) -> Result<Vec<Claim>> {
    // Objects on their way out stay queued until the reaper takes them: they must not stand in the way.
    let next = format!(
        "SELECT q.object_id, q.store FROM replicas q JOIN objects w ON w.id = q.object_id AND w.state = 'stored' \
         WHERE q.store = $1 AND q.run_id IS NULL AND q.state = 'queued' AND q.priority >= $6 AND q.not_before <= now() \
           AND {} \
         ORDER BY q.priority DESC, q.not_before, q.object_id LIMIT {} FOR UPDATE OF q SKIP LOCKED",
        can_be_made(terms.down),
        terms.limit,
    );
    let query = diesel::sql_query(claiming(&next))
        .bind::<Text, _>(store)
        .bind::<SqlUuid, _>(terms.token)
        .bind::<SqlUuid, _>(terms.worker)
        .bind::<Double, _>(terms.lease.as_secs_f64())
        .bind::<Array<Text>, _>(terms.down)
        .bind::<SmallInt, _>(least_priority);
    Ok(Prepared(query).load(conn).await?)
}

/// Claims what `next` selects, under the lease `$2` of the worker `$3` for `$4` seconds. The stores `$5` are no sources.
fn claiming(next: &str) -> String {
    format!(
        "WITH next AS ({next}) \
         UPDATE replicas r SET state = 'copying', lease_token = $2, lease_worker = $3, \
                lease_until = now() + make_interval(secs => $4) \
         FROM next JOIN objects o ON o.id = next.object_id \
         WHERE r.object_id = next.object_id AND r.store = next.store AND o.state = 'stored' \
         RETURNING r.object_id, r.store, r.attempts, r.upload_id, r.part_size, r.key_id, r.envelope, r.storage_class, o.key, o.size, \
             o.sha256, o.crc64nvme, o.block_crcs, o.content_type, o.owner_id, o.stored_at, \
             {ABOUT_OBJECT} AS about, \
             ARRAY(SELECT s.store FROM replicas s WHERE s.object_id = o.id AND s.state = 'present' AND s.store <> ALL($5) AND {READABLE}) AS sources"
    )
}

/// Notes the sizes of what is queued for a run, so that it can be claimed by size.
pub async fn note_sizes(conn: &mut AsyncPgConnection, run: RunId) -> Result<usize> {
    Ok(diesel::sql_query(
        "UPDATE replicas r SET object_size = o.size FROM objects o \
         WHERE o.id = r.object_id AND r.run_id = $1 AND r.state = 'queued' AND r.object_size IS NULL",
    )
    .bind::<SqlUuid, _>(run)
    .execute(conn)
    .await?)
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
