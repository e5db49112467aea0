//! The `store_drains` table: the stores that are being emptied, or are empty and shall stay so.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::may_take_long;
use super::schema::store_drains;
use crate::error::Result;
use crate::ids::UserId;

/// A store that is being emptied.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = store_drains, check_for_backend(diesel::pg::Pg))]
pub struct Drain {
    /// Store.
    pub store: String,
    /// Who asked for it; none for the operator's program.
    pub requested_by: Option<UserId>,
    /// When.
    pub requested_at: DateTime<Utc>,
    /// Replicas that it had then.
    pub replicas_total: i64,
    /// Bytes of those.
    pub bytes_total: i64,
    /// What keeps it from coming to its end.
    pub waits_for: Option<String>,
    /// When nothing was left in it.
    pub finished_at: Option<DateTime<Utc>>,
}

/// Begins to empty a store. Answers false, and changes nothing, where that was asked for before. Part of a transaction:
/// lifts the statement timeout for it, because a store may hold millions of replicas.
pub async fn begin(conn: &mut AsyncPgConnection, store: &str, by: Option<UserId>) -> Result<bool> {
    may_take_long(conn).await?;
    let changed = diesel::sql_query(
        "INSERT INTO store_drains (store, requested_by, replicas_total, bytes_total) \
         SELECT $1, $2, count(*), coalesce(sum(o.size), 0)::bigint \
         FROM replicas r JOIN objects o ON o.id = r.object_id \
         WHERE r.store = $1 AND r.verified_at IS NOT NULL AND o.state = 'stored' \
         ON CONFLICT DO NOTHING",
    )
    .bind::<Text, _>(store)
    .bind::<Nullable<SqlUuid>, _>(by)
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Keeps everybody else from asking for, or taking back, any of them until the end of the transaction: two stores must not
/// be emptied into each other.
pub async fn lock(conn: &mut AsyncPgConnection) -> Result<()> {
    diesel::sql_query("LOCK TABLE store_drains IN SHARE ROW EXCLUSIVE MODE").execute(conn).await?;
    Ok(())
}

/// The one of this store, if it is being emptied.
pub async fn find(conn: &mut AsyncPgConnection, store: &str) -> Result<Option<Drain>> {
    Ok(store_drains::table.find(store).select(Drain::as_select()).first(conn).await.optional()?)
}

/// Lets a store be used again. Answers whether it was being emptied.
pub async fn end(conn: &mut AsyncPgConnection, store: &str) -> Result<bool> {
    Ok(diesel::delete(store_drains::table.find(store)).execute(conn).await? == 1)
}

/// Every store that is being emptied or is empty, by name.
pub async fn all(conn: &mut AsyncPgConnection) -> Result<Vec<Drain>> {
    Ok(store_drains::table.order(store_drains::store).select(Drain::as_select()).load(conn).await?)
}

/// Their names.
pub async fn names(conn: &mut AsyncPgConnection) -> Result<Vec<String>> {
    Ok(store_drains::table.order(store_drains::store).select(store_drains::store).load(conn).await?)
}

/// Notes what a look at a store found: what it waits for, or that nothing is left. Answers whether it has come to its end
/// with this look.
pub async fn note(
    conn: &mut AsyncPgConnection,
    store: &str,
    waits_for: Option<&str>,
    finished: bool,
) -> Result<bool> {
    let row: Option<Ended> = diesel::sql_query(
        "UPDATE store_drains d SET waits_for = $2, \
                finished_at = CASE WHEN $3 THEN coalesce(d.finished_at, now()) END \
         FROM (SELECT store, finished_at FROM store_drains WHERE store = $1 FOR UPDATE) before \
         WHERE d.store = before.store \
           AND (d.waits_for IS DISTINCT FROM $2 OR (before.finished_at IS NOT NULL) <> $3) \
         RETURNING $3 AND before.finished_at IS NULL AS ended",
    )
    .bind::<Text, _>(store)
    .bind::<Nullable<Text>, _>(waits_for)
    .bind::<diesel::sql_types::Bool, _>(finished)
    .get_result(conn)
    .await
    .optional()?;
    Ok(row.is_some_and(|row| row.ended))
}

#[derive(QueryableByName)]
struct Ended {
    #[diesel(sql_type = diesel::sql_types::Bool)]
    ended: bool,
}

/// What lies in a store, or is on its way into it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Left {
    /// Verified replicas, and those that were and are lost now.
    #[diesel(sql_type = BigInt)]
    pub replicas: i64,
    /// Bytes of those.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
    /// Copies into it that are being made, or were broken off.
    #[diesel(sql_type = BigInt)]
    pub copies: i64,
    /// Uploads into it, and what is deleted from it at this moment.
    #[diesel(sql_type = BigInt)]
    pub others: i64,
}

impl Left {
    /// Whether nothing is left.
    pub fn is_nothing(&self) -> bool {
        self.replicas + self.copies + self.others == 0
    }
}

/// See [`Left`]. Reads the whole table: not for every second.
pub async fn left_in(conn: &mut AsyncPgConnection, store: &str) -> Result<Left> {
    Ok(diesel::sql_query(
        "SELECT count(*) FILTER (WHERE r.verified_at IS NOT NULL AND o.state = 'stored') AS replicas, \
                coalesce(sum(o.size) FILTER (WHERE r.verified_at IS NOT NULL AND o.state = 'stored'), 0)::bigint AS bytes, \
                count(*) FILTER (WHERE r.verified_at IS NULL AND o.state = 'stored') AS copies, \
                count(*) FILTER (WHERE o.state <> 'stored') \
                    + (SELECT count(*) FROM objects u WHERE u.upload_store = $1 AND u.state <> 'stored' \
                       AND NOT EXISTS (SELECT 1 FROM replicas x WHERE x.object_id = u.id AND x.store = $1)) AS others \
         FROM replicas r JOIN objects o ON o.id = r.object_id WHERE r.store = $1",
    )
    .bind::<Text, _>(store)
    .get_result(conn)
    .await?)
}
