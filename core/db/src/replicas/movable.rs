//! The usage of the local stores, and which replicas can be moved from one to another: the basis of rebalancing.

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::predicates::readable;
use crate::error::Result;
use crate::ids::ObjectId;
use crate::statement::Values;

/// The usage of a store.
#[derive(Debug, Clone, PartialEq, Eq, QueryableByName)]
pub struct Held {
    /// Store.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// Bytes present.
    #[diesel(sql_type = BigInt)]
    pub used: i64,
    /// Bytes present after all queued copies and all deletions in progress.
    #[diesel(sql_type = BigInt)]
    pub expected: i64,
}

/// The usage of these stores; empty ones are omitted. Reads all their replicas: do not call it every second.
pub async fn held(conn: &mut AsyncPgConnection, stores: &[&str]) -> Result<Vec<Held>> {
    Ok(diesel::sql_query(
        "SELECT r.store, coalesce(sum(o.size) FILTER (WHERE r.state IN ('present', 'evicting')), 0)::bigint AS used, \
                coalesce(sum(o.size) FILTER (WHERE r.state IN ('present', 'queued', 'copying', 'lost') \
                    AND r.moves_to IS NULL AND o.state = 'stored'), 0)::bigint AS expected \
         FROM replicas r JOIN objects o ON o.id = r.object_id WHERE r.store = ANY($1) GROUP BY r.store ORDER BY r.store",
    )
    .bind::<Array<Text>, _>(stores)
    .load(conn)
    .await?)
}

/// An examined replica.
#[derive(Debug, Clone, QueryableByName)]
pub struct Movable {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Size in bytes.
    #[diesel(sql_type = BigInt)]
    pub size: i64,
    /// Whether it can be moved.
    #[diesel(sql_type = Bool)]
    pub may_move: bool,
}

/// The next `limit` replicas that are present in `from`, oldest first, and whether each can be moved to `to`: not if
/// that store has or will have the object, or has rejected it before.
pub async fn movable(
    conn: &mut AsyncPgConnection,
    from: &str,
    to: &str,
    after: ObjectId,
    limit: i64,
) -> Result<Vec<Movable>> {
    let mut values = Values::default();
    let (from, to, after) = (values.text(from), values.text(to), values.id(after));
    // First the batch, with its limit in the text, so that the planner expects a small batch.
    let sql = format!(
        "WITH picked AS MATERIALIZED ( \
             SELECT s.object_id, s.moves_to IS NULL AND s.verified_at IS NOT NULL AND {} AS stays FROM replicas s \
             WHERE s.store = {from} AND s.state = 'present' AND s.object_id > {after} ORDER BY s.object_id LIMIT {limit} \
         ) SELECT p.object_id, coalesce(o.size, 0) AS size, \
                  p.stays AND o.state = 'stored' AND NOT EXISTS (SELECT 1 FROM replicas d \
                      WHERE d.object_id = p.object_id AND d.store = {to} OFFSET 0) AS may_move \
           FROM picked p JOIN objects o ON o.id = p.object_id ORDER BY p.object_id",
        readable("s")
    );
    Ok(values.query(&sql).load(conn).await?)
}
