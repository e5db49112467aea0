//! Leases for copies: claimed in batches at a cost independent of the backlog, renewed during the transfer, and
//! reclaimed after they expire. Uses the clock of the database, which all workers share.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bytea, Jsonb, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::RUN_TO_GO_BACK_TO;
use super::predicates::{has_readable, is_draining, readable};
use super::transitions::{self, CLAIM, RECLAIM, RENEW, under_lease};
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, RunId, UserId, WorkerId};
use crate::labels::ABOUT_OBJECT;
use crate::prepared::Prepared;
use crate::statement::Values;

/// Number of expired leases after which a replica fails: it seems to crash its workers.
const MAX_ABANDONED: i32 = 20;

/// Copies requeued in one statement.
const MAX_RECLAIMED: i64 = 2_000;

/// A replica that this worker may copy until the lease expires, with all required data of the object.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(table_name = crate::schema::replicas)]
pub struct Claim {
    /// Object.
    pub object_id: ObjectId,
    /// Destination.
    pub store: String,
    /// The lease of this copy. Guards every UPDATE that finishes it.
    #[diesel(sql_type = SqlUuid)]
    pub token: LeaseToken,
    /// Failed attempts so far.
    pub attempts: i32,
    /// Multipart upload to resume.
    pub upload_id: Option<String>,
    /// Part size of that upload, in bytes.
    pub part_size: Option<i64>,
    /// Id of the key that this upload is encrypted with, if encrypted.
    pub key_id: Option<String>,
    /// See [`crate::encryption::EncryptionEnvelope`].
    pub envelope: Option<Vec<u8>>,
    /// Requested storage class.
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
    /// When the upload was acknowledged.
    #[diesel(sql_type = Timestamptz)]
    pub stored_at: DateTime<Utc>,
    /// Further metadata for the object: see [`crate::labels`].
    #[diesel(sql_type = Nullable<Jsonb>)]
    pub about: Option<serde_json::Value>,
    /// Stores with a verified replica that are not known to be down.
    #[diesel(sql_type = Array<Text>)]
    pub sources: Vec<String>,
}

/// The parameters of a claim: for whom, and what is excluded.
#[derive(Debug, Clone, Copy)]
pub struct ClaimTerms<'a> {
    /// The claiming worker.
    pub worker: WorkerId,
    /// Maximum number of copies.
    pub limit: i64,
    /// Duration of the lease.
    pub lease: Duration,
    /// Stores that are down: no copies to them, and no copies whose only readable sources are in them.
    pub down: &'a [String],
    /// Stores that are full: no copies to them.
    pub full: &'a [String],
}

/// Claims the next batch of a run for a worker, in queue order: a short statement that skips rows locked by other
/// claims, at a cost that depends on the batch size, not on the backlog. While a store is down, its queued copies are
/// read and skipped. Nothing is claimed for a run that is stopping: its queue is being released.
pub async fn claim(conn: &mut AsyncPgConnection, run: RunId, terms: ClaimTerms<'_>) -> Result<Vec<Claim>> {
    claim_of_run(conn, "not_before <= now()", "not_before", run, terms).await
}

/// Like [`claim`], in order of size, for copies that have not failed yet and whose size has been recorded by
/// [`super::record_sizes`]; no others.
pub async fn claim_by_size(
    conn: &mut AsyncPgConnection,
    largest_first: bool,
    run: RunId,
    terms: ClaimTerms<'_>,
) -> Result<Vec<Claim>> {
    let order = if largest_first { "object_size DESC" } else { "object_size" };
    let which = "attempts = 0 AND object_size IS NOT NULL AND not_before <= now()";
    claim_of_run(conn, which, order, run, terms).await
}

async fn claim_of_run(
    conn: &mut AsyncPgConnection,
    which: &str,
    order: &str,
    run: RunId,
    terms: ClaimTerms<'_>,
) -> Result<Vec<Claim>> {
    let mut values = Values::default();
    let run = values.id(run);
    // Evaluated once for the statement: it does not refer to a row of the queue.
    let goes_on = format!(
        "EXISTS (SELECT 1 FROM runs u WHERE u.id = {run} AND u.cancel_requested_at IS NULL AND u.error IS NULL)"
    );
    let which = format!("replicas q WHERE q.run_id = {run} AND q.state = 'queued' AND {goes_on} AND {which}");
    claim_next(conn, values, &which, order, terms).await
}

/// Copies that are made outside of runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDemand {
    /// All copies, as for local stores.
    Everything,
    /// Only copies that are made because another store is being drained; all others wait for a run.
    Drained,
}

/// Claims the next copies into `store` that are made outside of runs, in the same way.
pub async fn claim_on_demand(
    conn: &mut AsyncPgConnection,
    store: &str,
    which: OnDemand,
    terms: ClaimTerms<'_>,
) -> Result<Vec<Claim>> {
    let mut values = Values::default();
    let store = values.text(store);
    let which = match which {
        OnDemand::Everything => "",
        OnDemand::Drained => "AND q.copy_reason = 'drain'",
    };
    // Objects being removed stay queued until the reaper takes them, and must not block the queue.
    let which = format!(
        "replicas q JOIN objects w ON w.id = q.object_id AND w.state = 'stored' \
         WHERE q.store = {store} AND q.run_id IS NULL AND q.state = 'queued' {which} AND q.not_before <= now()"
    );
    claim_next(conn, values, &which, "q.not_before", terms).await
}

/// Claims the first of the copies `q` that `which` selects (text after `FROM`) and that can be made now: their store is
/// not being drained. While stores are down, their store must also be up, and another store that is up must hold a
/// readable copy; a full store is only excluded as a target. While all stores are healthy, the sources are not checked.
async fn claim_next(
    conn: &mut AsyncPgConnection,
    mut values: Values,
    which: &str,
    order: &str,
    terms: ClaimTerms<'_>,
) -> Result<Vec<Claim>> {
    // Each copy has a lease of its own, so that losing one says nothing about the others.
    let lease = format!(
        "lease_token = gen_random_uuid(), lease_worker = {}, {}",
        values.id(terms.worker),
        transitions::until(&mut values, terms.lease)
    );
    let down = values.texts(terms.down);
    let is_up = format!("s.store <> ALL({down})");
    let mut can_be_made = format!("NOT {}", is_draining("q.store"));
    if !terms.down.is_empty() {
        let source = has_readable("q.object_id", &format!("s.store <> q.store AND {is_up}"));
        can_be_made = format!("{can_be_made} AND q.store <> ALL({down}) AND {source}");
    }
    if !terms.full.is_empty() {
        can_be_made = format!("{can_be_made} AND q.store <> ALL({})", values.texts(terms.full));
    }
    let claimed = CLAIM.update(
        &lease,
        "FROM next JOIN objects o ON o.id = next.object_id",
        "r.object_id = next.object_id AND r.store = next.store AND o.state = 'stored'",
    );
    // The limit is part of the text, so that the cached plan is made for a small batch.
    let sql = format!(
        "WITH next AS ( \
             SELECT q.object_id, q.store FROM {which} AND {can_be_made} \
             ORDER BY q.priority DESC, {order}, q.object_id LIMIT {limit} FOR UPDATE OF q SKIP LOCKED \
         ) {claimed} \
         RETURNING r.object_id, r.store, r.lease_token AS token, r.attempts, r.upload_id, r.part_size, r.key_id, r.envelope, r.storage_class, o.key, \
             o.size, o.sha256, o.crc64nvme, o.block_crcs, o.content_type, o.owner_id, o.stored_at, {ABOUT_OBJECT} AS about, \
             ARRAY(SELECT s.store FROM replicas s WHERE s.object_id = o.id AND s.state = 'present' AND {is_up} \
                   AND {readable}) AS sources",
        limit = terms.limit,
        readable = readable("s"),
    );
    Ok(Prepared(values.query(&sql)).load(conn).await?)
}

/// A row with a lease token.
#[derive(QueryableByName)]
struct TokenRow {
    #[diesel(sql_type = SqlUuid)]
    token: LeaseToken,
}

/// Renews the leases that a worker currently holds. An expired lease is renewed too, unless another worker has taken
/// it: after a database outage the work continues. Leases that the worker no longer works under must not be included:
/// they are reclaimed after they expire. Returns the renewed leases; the others are lost, or their copies are finished.
pub async fn renew_leases(
    conn: &mut AsyncPgConnection,
    worker: WorkerId,
    tokens: &[LeaseToken],
    lease: Duration,
) -> Result<Vec<LeaseToken>> {
    let mut values = Values::default();
    let until = transitions::until(&mut values, lease);
    let (worker, tokens) = (values.id(worker), values.ids(tokens));
    let which = format!("r.lease_worker = {worker} AND r.lease_token = ANY({tokens})");
    let sql = format!("{} RETURNING r.lease_token AS token", RENEW.update(&until, "", &which));
    let rows: Vec<TokenRow> = values.query(&sql).load(conn).await?;
    Ok(rows.into_iter().map(|row| row.token).collect())
}

/// Renews the lease of one copy, if it is still held and, with `upload`, if this multipart upload is still the one in
/// the row. Returns whether it is: then the copy belongs to the caller until the lease expires.
pub async fn confirm_lease(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    token: LeaseToken,
    upload: Option<&str>,
    lease: Duration,
) -> Result<bool> {
    let mut values = Values::default();
    let until = transitions::until(&mut values, lease);
    let upload = values.text_or_null(upload);
    let which = format!(
        "{} AND ({upload} IS NULL OR r.upload_id = {upload})",
        under_lease(&mut values, &[object], store, token)
    );
    Ok(values.query(&RENEW.update(&until, "", &which)).execute(conn).await? == 1)
}

/// Requeues copies whose lease has expired and keeps the parts that are complete. A copy that was abandoned too often
/// fails instead. Returns the number of changed copies, at most 2,000: the next call continues.
pub async fn reclaim_expired(conn: &mut AsyncPgConnection) -> Result<usize> {
    let touched = RECLAIM.update_if(
        &format!("r.abandoned + 1 >= {MAX_ABANDONED}"),
        // A failed copy stays with the run that counts it.
        &format!(
            "run_id = CASE WHEN r.abandoned + 1 >= {MAX_ABANDONED} THEN r.run_id ELSE {RUN_TO_GO_BACK_TO} END"
        ),
        "FROM expired e",
        "r.object_id = e.object_id AND r.store = e.store",
    );
    let sql = format!(
        "WITH expired AS ( \
             SELECT object_id, store FROM replicas WHERE state = 'copying' AND lease_until < now() \
             ORDER BY lease_until LIMIT {MAX_RECLAIMED} FOR UPDATE SKIP LOCKED \
         ), touched AS ( \
             {touched} RETURNING r.object_id, r.store, r.state, r.run_id, r.abandoned, r.last_error \
         ), given_up AS ( \
             INSERT INTO run_failures (id, run_id, object_id, store, attempts, error) \
             SELECT gen_random_uuid(), run_id, object_id, store, abandoned, last_error FROM touched \
             WHERE state = 'failed' AND run_id IS NOT NULL RETURNING run_id \
         ), counted AS ( \
             UPDATE runs SET files_failed = files_failed + g.n \
             FROM (SELECT run_id, count(*) AS n FROM given_up GROUP BY run_id) g WHERE runs.id = g.run_id \
         ) SELECT 1 FROM touched"
    );
    Ok(Values::default().query(&sql).execute(conn).await?)
}
