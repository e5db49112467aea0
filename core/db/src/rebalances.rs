//! The `rebalances` and `rebalance_routes` tables: the last requested rebalancing of the local stores, and the amount
//! for each pair of stores. Moves in progress are marked in `replicas.moves_to`.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;

use super::schema::rebalances;
use crate::error::Result;
use crate::ids::{ObjectId, UserId};

/// A requested rebalancing.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = rebalances, check_for_backend(diesel::pg::Pg))]
pub struct Rebalance {
    /// The account that requested it; `None` for the CLI.
    pub requested_by: Option<UserId>,
    /// When it was requested.
    pub requested_at: DateTime<Utc>,
    /// Percentage by which the share of a store may differ from the mean.
    pub tolerance: i16,
    /// What it is waiting for.
    pub waits_for: Option<String>,
    /// When it was stopped.
    pub stopped_at: Option<DateTime<Utc>>,
    /// When the last move ended.
    pub finished_at: Option<DateTime<Utc>>,
}

impl Rebalance {
    /// Whether further moves may start.
    pub fn is_active(&self) -> bool {
        self.stopped_at.is_none() && self.finished_at.is_none()
    }
}

/// A route from one store to another, and its progress.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
#[diesel(table_name = crate::schema::rebalance_routes)]
pub struct Route {
    /// Source.
    pub from_store: String,
    /// Destination.
    pub to_store: String,
    /// Planned files.
    pub files_planned: i64,
    /// Planned bytes: the upper bound of the moves.
    pub bytes_planned: i64,
    /// Files whose move has started.
    pub files_begun: i64,
    /// Their bytes.
    pub bytes_begun: i64,
    /// Of those, files in progress.
    #[diesel(sql_type = BigInt)]
    pub files_on_their_way: i64,
    /// Their bytes.
    #[diesel(sql_type = BigInt)]
    pub bytes_on_their_way: i64,
    /// The last examined object of the source store.
    pub looked_until: ObjectId,
    /// Whether all moves have started.
    pub all_begun: bool,
}

/// The last rebalancing.
pub async fn last(conn: &mut AsyncPgConnection) -> Result<Option<Rebalance>> {
    Ok(rebalances::table.select(Rebalance::as_select()).first(conn).await.optional()?)
}

/// Like [`last`], with a lock until the end of the transaction.
pub async fn lock(conn: &mut AsyncPgConnection) -> Result<Option<Rebalance>> {
    Ok(rebalances::table.select(Rebalance::as_select()).for_update().first(conn).await.optional()?)
}

/// Prevents concurrent requests until the end of the transaction.
pub async fn lock_all(conn: &mut AsyncPgConnection) -> Result<()> {
    diesel::sql_query("LOCK TABLE rebalances IN SHARE ROW EXCLUSIVE MODE").execute(conn).await?;
    Ok(())
}

/// A planned amount from one store to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewRoute {
    /// Source.
    pub from: String,
    /// Destination.
    pub to: String,
    /// Files.
    pub files: i64,
    /// Maximum bytes.
    pub bytes: i64,
}

/// Replaces the last rebalancing with a new one. Without routes it is finished immediately.
pub async fn begin(
    conn: &mut AsyncPgConnection,
    tolerance: i16,
    by: Option<UserId>,
    routes: &[NewRoute],
) -> Result<()> {
    diesel::sql_query(
        "INSERT INTO rebalances (requested_by, tolerance, finished_at) VALUES ($1, $2, CASE WHEN $3 THEN now() END) \
         ON CONFLICT (id) DO UPDATE SET requested_by = EXCLUDED.requested_by, requested_at = now(), \
             tolerance = EXCLUDED.tolerance, waits_for = NULL, stopped_at = NULL, finished_at = EXCLUDED.finished_at",
    )
    .bind::<Nullable<SqlUuid>, _>(by)
    .bind::<SmallInt, _>(tolerance)
    .bind::<Bool, _>(routes.is_empty())
    .execute(conn)
    .await?;
    diesel::sql_query("DELETE FROM rebalance_routes").execute(conn).await?;
    let (from, to): (Vec<&str>, Vec<&str>) =
        routes.iter().map(|route| (route.from.as_str(), route.to.as_str())).unzip();
    let (files, bytes): (Vec<i64>, Vec<i64>) = routes.iter().map(|route| (route.files, route.bytes)).unzip();
    diesel::sql_query(
        "INSERT INTO rebalance_routes (from_store, to_store, files_planned, bytes_planned) \
         SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])",
    )
    .bind::<Array<Text>, _>(from)
    .bind::<Array<Text>, _>(to)
    .bind::<Array<BigInt>, _>(files)
    .bind::<Array<BigInt>, _>(bytes)
    .execute(conn)
    .await?;
    Ok(())
}

/// Routes, with their progress.
pub async fn routes(conn: &mut AsyncPgConnection) -> Result<Vec<Route>> {
    Ok(diesel::sql_query(
        "WITH moving AS ( \
             SELECT r.store, r.moves_to, count(*) AS files, sum(o.size)::bigint AS bytes \
             FROM replicas r JOIN objects o ON o.id = r.object_id AND o.state = 'stored' \
             WHERE r.moves_to IS NOT NULL GROUP BY r.store, r.moves_to \
         ) SELECT t.*, coalesce(m.files, 0) AS files_on_their_way, coalesce(m.bytes, 0) AS bytes_on_their_way \
         FROM rebalance_routes t LEFT JOIN moving m ON m.store = t.from_store AND m.moves_to = t.to_store \
         ORDER BY t.bytes_planned DESC, t.from_store, t.to_store",
    )
    .load(conn)
    .await?)
}

/// Records that moves of a route have started; with `all_begun`, that no more will.
pub async fn record_started(
    conn: &mut AsyncPgConnection,
    route: &Route,
    (files, bytes): (i64, i64),
    looked_until: ObjectId,
    all_begun: bool,
) -> Result<()> {
    diesel::sql_query(
        "UPDATE rebalance_routes SET files_begun = files_begun + $3, bytes_begun = bytes_begun + $4, looked_until = $5, \
             all_begun = all_begun OR $6 WHERE from_store = $1 AND to_store = $2",
    )
    .bind::<Text, _>(&route.from_store)
    .bind::<Text, _>(&route.to_store)
    .bind::<BigInt, _>(files)
    .bind::<BigInt, _>(bytes)
    .bind::<SqlUuid, _>(looked_until)
    .bind::<Bool, _>(all_begun)
    .execute(conn)
    .await?;
    Ok(())
}

/// Stops it.
pub async fn stop(conn: &mut AsyncPgConnection) -> Result<()> {
    diesel::sql_query(
        "UPDATE rebalances SET stopped_at = now() WHERE stopped_at IS NULL AND finished_at IS NULL",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Prevents further moves along all routes.
pub async fn stop_starting(conn: &mut AsyncPgConnection) -> Result<()> {
    diesel::sql_query("UPDATE rebalance_routes SET all_begun = true WHERE NOT all_begun")
        .execute(conn)
        .await?;
    Ok(())
}

/// Records what it is waiting for, and its end if all moves have started and none is in progress. Returns whether it
/// ended now.
pub async fn note(conn: &mut AsyncPgConnection, waits_for: Option<&str>) -> Result<bool> {
    let ended = diesel::sql_query(
        "UPDATE rebalances SET finished_at = now(), waits_for = NULL WHERE finished_at IS NULL \
           AND NOT EXISTS (SELECT 1 FROM rebalance_routes t WHERE NOT t.all_begun) \
           AND NOT EXISTS (SELECT 1 FROM replicas r JOIN objects o ON o.id = r.object_id AND o.state = 'stored' \
                           WHERE r.moves_to IS NOT NULL)",
    )
    .execute(conn)
    .await?;
    if ended == 0 {
        diesel::sql_query(
            "UPDATE rebalances SET waits_for = $1 WHERE finished_at IS NULL AND waits_for IS DISTINCT FROM $1",
        )
        .bind::<Nullable<Text>, _>(waits_for)
        .execute(conn)
        .await?;
    }
    Ok(ended == 1)
}
