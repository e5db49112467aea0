//! The `rebalances` and `rebalance_routes` tables: the last time that somebody asked for the local stores to be evened out,
//! and how much goes from which store to which. What is on its way stands in `replicas.moves_to`.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, SmallInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::rebalances;
use crate::error::Result;
use crate::ids::{ObjectId, UserId};

/// That the local stores are to be evened out.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable)]
#[diesel(table_name = rebalances, check_for_backend(diesel::pg::Pg))]
pub struct Rebalance {
    /// Who asked for it; none for the operator's program.
    pub requested_by: Option<UserId>,
    /// When.
    pub requested_at: DateTime<Utc>,
    /// Per cent by which the share of a store may differ from the mean.
    pub tolerance: i16,
    /// What keeps it from coming to its end.
    pub waits_for: Option<String>,
    /// When it was called off.
    pub stopped_at: Option<DateTime<Utc>>,
    /// When nothing of it was under way any more.
    pub finished_at: Option<DateTime<Utc>>,
}

impl Rebalance {
    /// Whether more may be begun.
    pub fn is_active(&self) -> bool {
        self.stopped_at.is_none() && self.finished_at.is_none()
    }
}

/// What goes from one store to another, and how far that is.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Route {
    /// From.
    #[diesel(sql_type = Text)]
    pub from_store: String,
    /// To.
    #[diesel(sql_type = Text)]
    pub to_store: String,
    /// Files that were to go.
    #[diesel(sql_type = BigInt)]
    pub files_planned: i64,
    /// Bytes of those: no more goes.
    #[diesel(sql_type = BigInt)]
    pub bytes_planned: i64,
    /// Files of which the move was begun.
    #[diesel(sql_type = BigInt)]
    pub files_begun: i64,
    /// Bytes of those.
    #[diesel(sql_type = BigInt)]
    pub bytes_begun: i64,
    /// Of those, files that are on their way.
    #[diesel(sql_type = BigInt)]
    pub files_on_their_way: i64,
    /// Bytes of those.
    #[diesel(sql_type = BigInt)]
    pub bytes_on_their_way: i64,
    /// Up to which object the store was looked through.
    #[diesel(sql_type = SqlUuid)]
    pub looked_until: ObjectId,
    /// Whether nothing more is begun.
    #[diesel(sql_type = Bool)]
    pub all_begun: bool,
}

/// The last one.
pub async fn last(conn: &mut AsyncPgConnection) -> Result<Option<Rebalance>> {
    Ok(rebalances::table.select(Rebalance::as_select()).first(conn).await.optional()?)
}

/// As [`last`], and keeps everybody else from changing it until the end of the transaction.
pub async fn lock(conn: &mut AsyncPgConnection) -> Result<Option<Rebalance>> {
    Ok(rebalances::table.select(Rebalance::as_select()).for_update().first(conn).await.optional()?)
}

/// Keeps everybody else from asking for one until the end of the transaction.
pub async fn lock_all(conn: &mut AsyncPgConnection) -> Result<()> {
    diesel::sql_query("LOCK TABLE rebalances IN SHARE ROW EXCLUSIVE MODE").execute(conn).await?;
    Ok(())
}

/// What is to go from one store to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRoute {
    /// From.
    pub from: String,
    /// To.
    pub to: String,
    /// Files.
    pub files: i64,
    /// Bytes of those, at most.
    pub bytes: i64,
}

/// Puts a new one in the place of the last one. Where there is nothing to do it is at its end.
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

/// Its routes, with how far each is.
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

/// More of a route was begun; or, with `all_begun`, nothing more is.
pub async fn note_begun(
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

/// Calls it off.
pub async fn stop(conn: &mut AsyncPgConnection) -> Result<()> {
    diesel::sql_query(
        "UPDATE rebalances SET stopped_at = now() WHERE stopped_at IS NULL AND finished_at IS NULL",
    )
    .execute(conn)
    .await?;
    Ok(())
}

/// Nothing more is begun, along any route.
pub async fn begin_no_more(conn: &mut AsyncPgConnection) -> Result<()> {
    diesel::sql_query("UPDATE rebalance_routes SET all_begun = true WHERE NOT all_begun")
        .execute(conn)
        .await?;
    Ok(())
}

/// Notes what it waits for, and its end where everything was begun and nothing is on its way. Answers whether that is now.
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
