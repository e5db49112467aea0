//! The `store_drains` table: the stores that are being drained, or are drained.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::disable_statement_timeout;
use super::schema::store_drains;
use crate::error::Result;
use crate::ids::UserId;
use crate::replicas::Flag;

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

/// Starts draining a store. Returns false, and changes nothing, if it is already being drained. Part of a transaction,
/// in which it disables the statement timeout, because a store may hold millions of replicas.
pub async fn begin(conn: &mut AsyncPgConnection, store: &str, by: Option<UserId>) -> Result<bool> {
    disable_statement_timeout(conn).await?;
    let changed = diesel::sql_query(
        "INSERT INTO store_drains (store, requested_by, replicas_total, bytes_total) \
         SELECT $1, $2, count(*), coalesce(sum(o.size), 0)::bigint \
         FROM replicas r JOIN objects o ON o.id = r.object_id \
         WHERE r.store = $1 AND (r.verified_at IS NOT NULL OR r.state IN ('present', 'lost')) AND o.state = 'stored' \
         ON CONFLICT DO NOTHING",
    )
    .bind::<Text, _>(store)
    .bind::<Nullable<SqlUuid>, _>(by)
    .execute(conn)
    .await?;
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

/// Counts [`Left`]. Reads the whole table: do not call it every second.
pub async fn left_in(conn: &mut AsyncPgConnection, store: &str) -> Result<Left> {
    Ok(diesel::sql_query(
        "SELECT count(*) FILTER (WHERE o.state = 'stored' AND (r.verified_at IS NOT NULL OR r.state IN ('present', 'lost'))) \
                    AS replicas, \
                coalesce(sum(o.size) FILTER (WHERE o.state = 'stored' \
                    AND (r.verified_at IS NOT NULL OR r.state IN ('present', 'lost'))), 0)::bigint AS bytes, \
                count(*) FILTER (WHERE o.state = 'stored' AND r.verified_at IS NULL AND r.state NOT IN ('present', 'lost')) \
                    AS copies, \
                count(*) FILTER (WHERE o.state <> 'stored') \
                    + (SELECT count(*) FROM objects u WHERE u.upload_store = $1 AND u.state <> 'stored' \
                       AND NOT EXISTS (SELECT 1 FROM replicas x WHERE x.object_id = u.id AND x.store = $1)) AS others \
         FROM replicas r JOIN objects o ON o.id = r.object_id WHERE r.store = $1",
    )
    .bind::<Text, _>(store)
    .get_result(conn)
    .await?)
}
