//! The `store_health` table: the health of the stores as seen by each process. For display only; no decision depends on
//! it.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::schema::store_health;
use crate::error::Result;

/// The health of a store as seen by a process.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = store_health)]
pub struct Seen {
    /// Store.
    pub store: String,
    /// Whether it is healthy.
    pub up: bool,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Latency of the last check in milliseconds.
    pub latency_ms: Option<i32>,
    /// The last error.
    pub last_error: Option<String>,
    /// How the process verifies what it writes: `response`, `head` or `read`; `None` if it does not know yet.
    pub evidence: Option<String>,
}

/// Writes the health seen by a process, replacing its previous rows.
pub async fn write(conn: &mut AsyncPgConnection, observer: Uuid, program: &str, seen: &[Seen]) -> Result<()> {
    if seen.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = seen
        .iter()
        .map(|seen| (seen, store_health::observer.eq(observer), store_health::program.eq(program)))
        .collect();
    diesel::insert_into(store_health::table)
        .values(rows)
        .on_conflict((store_health::store, store_health::observer))
        .do_update()
        .set((
            store_health::up.eq(diesel::upsert::excluded(store_health::up)),
            store_health::since.eq(diesel::upsert::excluded(store_health::since)),
            store_health::latency_ms.eq(diesel::upsert::excluded(store_health::latency_ms)),
            store_health::last_error.eq(diesel::upsert::excluded(store_health::last_error)),
            store_health::evidence.eq(diesel::upsert::excluded(store_health::evidence)),
            store_health::checked_at.eq(diesel::dsl::now),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Deletes the rows of a process at its shutdown.
pub async fn forget(conn: &mut AsyncPgConnection, observer: Uuid) -> Result<()> {
    diesel::delete(store_health::table.filter(store_health::observer.eq(observer))).execute(conn).await?;
    Ok(())
}

/// Deletes rows from before `before`, of processes that no longer exist.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::delete(store_health::table.filter(store_health::checked_at.lt(before))).execute(conn).await?)
}

/// The combined health of a store.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(table_name = crate::schema::store_health)]
pub struct HealthReport {
    /// Store.
    pub store: String,
    /// The number of processes that check it.
    #[diesel(sql_type = BigInt)]
    pub observers: i64,
    /// The number of those for which it is down.
    #[diesel(sql_type = BigInt)]
    pub down: i64,
    /// Whether it is healthy for all processes.
    pub up: bool,
    /// Since when.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub since: Option<DateTime<Utc>>,
    /// The highest last latency, in milliseconds.
    pub latency_ms: Option<i32>,
    /// The last error, preferably of a process for which the store is down.
    pub last_error: Option<String>,
    /// The time of the latest check.
    pub checked_at: DateTime<Utc>,
    /// How writes are verified: the most expensive of `response`, `head` and `read`; `None` if it is not known yet.
    pub evidence: Option<String>,
}

/// The health of every store since `since`.
pub async fn opinions(conn: &mut AsyncPgConnection, since: DateTime<Utc>) -> Result<Vec<HealthReport>> {
    Ok(diesel::sql_query(
        "SELECT store, count(*) AS observers, count(*) FILTER (WHERE NOT up) AS down, bool_and(up) AS up, \
                CASE WHEN bool_and(up) THEN max(since) ELSE min(since) FILTER (WHERE NOT up) END AS since, \
                max(latency_ms) AS latency_ms, \
                (array_agg(last_error ORDER BY up, checked_at DESC) FILTER (WHERE last_error IS NOT NULL))[1] AS last_error, \
                max(checked_at) AS checked_at, \
                CASE WHEN bool_or(evidence = 'read') THEN 'read' WHEN bool_or(evidence = 'head') THEN 'head' \
                     WHEN bool_or(evidence = 'response') THEN 'response' END AS evidence \
         FROM store_health WHERE checked_at > $1 GROUP BY store ORDER BY store",
    )
    .bind::<Timestamptz, _>(since)
    .load(conn)
    .await?)
}
