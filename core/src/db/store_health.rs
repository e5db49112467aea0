//! The `store_health` table: how each process sees the stores. For people to look at; nothing is decided by it.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::schema::store_health;
use crate::error::Result;

/// What a process sees of a store.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Store.
    pub store: String,
    /// Whether it counts as up.
    pub up: bool,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Milliseconds of its last answer.
    pub latency_ms: Option<i32>,
    /// What its last failure was.
    pub last_error: Option<String>,
}

/// Writes what a process sees, over what it saw before.
pub async fn write(conn: &mut AsyncPgConnection, observer: Uuid, program: &str, seen: &[Seen]) -> Result<()> {
    if seen.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = seen
        .iter()
        .map(|seen| {
            (
                store_health::store.eq(&seen.store),
                store_health::observer.eq(observer),
                store_health::program.eq(program),
                store_health::up.eq(seen.up),
                store_health::since.eq(seen.since),
                store_health::latency_ms.eq(seen.latency_ms),
                store_health::last_error.eq(seen.last_error.as_deref()),
            )
        })
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
            store_health::checked_at.eq(diesel::dsl::now),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Takes what a process saw away: it stops.
pub async fn forget(conn: &mut AsyncPgConnection, observer: Uuid) -> Result<()> {
    diesel::delete(store_health::table.filter(store_health::observer.eq(observer))).execute(conn).await?;
    Ok(())
}

/// Takes away what was seen before `before`: by processes that are gone.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::delete(store_health::table.filter(store_health::checked_at.lt(before))).execute(conn).await?)
}

/// How all processes together see a store.
#[derive(Debug, Clone, QueryableByName)]
pub struct Opinion {
    /// Store.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// Processes that look at it.
    #[diesel(sql_type = BigInt)]
    pub observers: i64,
    /// Of those, how many see it down.
    #[diesel(sql_type = BigInt)]
    pub down: i64,
    /// Whether all of them see it up.
    #[diesel(sql_type = Bool)]
    pub up: bool,
    /// Since when.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub since: Option<DateTime<Utc>>,
    /// The slowest last answer, in milliseconds.
    #[diesel(sql_type = Nullable<Integer>)]
    pub latency_ms: Option<i32>,
    /// What the last failure was, of those that see it down first.
    #[diesel(sql_type = Nullable<Text>)]
    pub last_error: Option<String>,
    /// When the last of them looked.
    #[diesel(sql_type = Timestamptz)]
    pub checked_at: DateTime<Utc>,
}

/// What was seen of every store since `since`.
pub async fn opinions(conn: &mut AsyncPgConnection, since: DateTime<Utc>) -> Result<Vec<Opinion>> {
    Ok(diesel::sql_query(
        "SELECT store, count(*) AS observers, count(*) FILTER (WHERE NOT up) AS down, bool_and(up) AS up, \
                CASE WHEN bool_and(up) THEN max(since) ELSE min(since) FILTER (WHERE NOT up) END AS since, \
                max(latency_ms) AS latency_ms, \
                (array_agg(last_error ORDER BY up, checked_at DESC) FILTER (WHERE last_error IS NOT NULL))[1] AS last_error, \
                max(checked_at) AS checked_at \
         FROM store_health WHERE checked_at > $1 GROUP BY store ORDER BY store",
    )
    .bind::<Timestamptz, _>(since)
    .load(conn)
    .await?)
}
