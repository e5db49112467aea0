//! The `store_drains` table: the stores that are being drained, or are drained.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::store_drains;
use crate::error::Result;
use crate::ids::UserId;
use crate::replicas::{Flag, totals};

/// A store that is being drained.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = store_drains, check_for_backend(diesel::pg::Pg))]
pub struct Drain {
    /// Store.
    pub store: String,
    /// The account that requested it; `None` for the CLI.
    pub requested_by: Option<UserId>,
    /// When.
    pub requested_at: DateTime<Utc>,
    /// Replicas at the start of the drain.
    pub replicas_total: i64,
    /// Their bytes.
    pub bytes_total: i64,
    /// What it is waiting for.
    pub waits_for: Option<String>,
    /// When it became empty.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Starts draining a store. Returns false, and changes nothing, if it is already being drained.
pub async fn begin(conn: &mut AsyncPgConnection, store: &str, by: Option<UserId>) -> Result<bool> {
    let totals = totals(conn).await?;
    let sql = format!(
        "INSERT INTO store_drains (store, requested_by, replicas_total, bytes_total) \
         SELECT $1, $2, coalesce(sum(t.replicas), 0)::bigint, coalesce(sum(t.bytes), 0)::bigint \
         FROM {totals} t WHERE t.store = $1 AND (t.is_verified OR t.state IN ('present', 'lost')) \
         ON CONFLICT DO NOTHING"
    );
    let changed =
        diesel::sql_query(sql).bind::<Text, _>(store).bind::<Nullable<SqlUuid>, _>(by).execute(conn).await?;
    Ok(changed == 1)
}

/// Locks the set of drains until the end of the transaction: two stores must not be drained into each other.
pub async fn lock(conn: &mut AsyncPgConnection) -> Result<()> {
    diesel::sql_query("LOCK TABLE store_drains IN SHARE ROW EXCLUSIVE MODE").execute(conn).await?;
    Ok(())
}

/// The drain of this store, if any.
pub async fn find(conn: &mut AsyncPgConnection, store: &str) -> Result<Option<Drain>> {
    Ok(store_drains::table.find(store).select(Drain::as_select()).first(conn).await.optional()?)
}

/// Ends the drain of a store. Returns whether there was one.
pub async fn end(conn: &mut AsyncPgConnection, store: &str) -> Result<bool> {
    Ok(diesel::delete(store_drains::table.find(store)).execute(conn).await? == 1)
}

/// Every store that is being drained or is drained, by name.
pub async fn all(conn: &mut AsyncPgConnection) -> Result<Vec<Drain>> {
    Ok(store_drains::table.order(store_drains::store).select(Drain::as_select()).load(conn).await?)
}

/// Their names.
pub async fn names(conn: &mut AsyncPgConnection) -> Result<Vec<String>> {
    Ok(store_drains::table.order(store_drains::store).select(store_drains::store).load(conn).await?)
}

/// Records the result of a pass over a store: what it is waiting for, or that it is empty. Returns whether it became
/// empty in this pass.
pub async fn note(
    conn: &mut AsyncPgConnection,
    store: &str,
    waits_for: Option<&str>,
    finished: bool,
) -> Result<bool> {
    let row: Option<Flag> = diesel::sql_query(
        "UPDATE store_drains d SET waits_for = $2, \
                finished_at = CASE WHEN $3 THEN coalesce(d.finished_at, now()) END \
         FROM (SELECT store, finished_at FROM store_drains WHERE store = $1 FOR UPDATE) before \
         WHERE d.store = before.store \
           AND (d.waits_for IS DISTINCT FROM $2 OR (before.finished_at IS NOT NULL) <> $3) \
         RETURNING $3 AND before.finished_at IS NULL AS yes",
    )
    .bind::<Text, _>(store)
    .bind::<Nullable<Text>, _>(waits_for)
    .bind::<diesel::sql_types::Bool, _>(finished)
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.is_some_and(|row| row.yes))
}

/// Remaining replicas in a store, or in progress to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Left {
    /// Replicas that were found or verified, and lost ones.
    #[diesel(sql_type = BigInt)]
    pub replicas: i64,
    /// Their bytes.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
    /// Copies to it that are in progress, or were interrupted.
    #[diesel(sql_type = BigInt)]
    pub copies: i64,
    /// Uploads to it, and deletions in progress.
    #[diesel(sql_type = BigInt)]
    pub others: i64,
}

impl Left {
    /// Whether nothing is left.
    pub fn is_nothing(&self) -> bool {
        self.replicas + self.copies + self.others == 0
    }
}

/// Uploads and removals looked at to count [`Left::others`].
const PENDING: i64 = 10_000;

/// Counts [`Left`], from the counts that the database keeps. While more uploads and removals are pending than are looked
/// at, the store counts as not empty.
pub async fn left_in(conn: &mut AsyncPgConnection, store: &str) -> Result<Left> {
    let pending = |state: &str| {
        format!("(SELECT id, upload_store FROM objects WHERE state = '{state}' LIMIT {PENDING})")
    };
    let (uploads, removals, totals) = (pending("uploading"), pending("removing"), totals(conn).await?);
    let sql = format!(
        "WITH pending AS MATERIALIZED ( \
             SELECT p.upload_store = $1 AS began_here, \
                    EXISTS (SELECT 1 FROM replicas x WHERE x.object_id = p.id AND x.store = $1) AS is_here \
             FROM ({uploads} UNION ALL {removals}) p \
         ), others AS ( \
             SELECT count(*) FILTER (WHERE is_here) AS here, count(*) FILTER (WHERE is_here OR began_here) AS known, \
                    (count(*) >= {PENDING})::int AS unknown FROM pending \
         ), counted AS ( \
             SELECT t.replicas, t.bytes, NOT t.is_verified AND t.state NOT IN ('present', 'lost') AS is_copy \
             FROM {totals} t WHERE t.store = $1 \
         ), held AS ( \
             SELECT coalesce(sum(replicas) FILTER (WHERE NOT is_copy), 0)::bigint AS replicas, \
                    coalesce(sum(bytes) FILTER (WHERE NOT is_copy), 0)::bigint AS bytes, \
                    coalesce(sum(replicas) FILTER (WHERE is_copy), 0)::bigint AS copies FROM counted \
         ) \
         SELECT greatest(h.replicas - o.here, 0)::bigint AS replicas, h.bytes, h.copies, \
                greatest(o.known, o.unknown)::bigint AS others FROM held h CROSS JOIN others o"
    );
    Ok(diesel::sql_query(sql).bind::<Text, _>(store).get_result(conn).await?)
}
