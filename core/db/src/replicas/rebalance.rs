//! Replicas that are moved between local stores by rebalancing: started, tracked, and cancelled. A replica being moved
//! has `moves_to`; its copy is queued in the destination like every other copy, and the source is deleted as in a
//! drain: see [`super::claim_departures`].

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Double, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::evict::EvictableCopy;
use super::moves::{BEHIND, Departure, claim_unproved_of};
use super::predicates::{is_draining, readable, untouched};
use super::transitions::{FORGET_QUEUED, IfThere, MARK_MOVE, Queue, RETRY, UNMARK_MOVE};
use super::{Amount, ObjectRow};
use crate::enums::{CopyReason, ReplicaState};
use crate::error::Result;
use crate::ids::ObjectId;
use crate::schema::sql_types::ReplicaState as ReplicaStateSql;
use crate::statement::Values;

/// Queues copies of these objects for the store `to`, with the lowest priority, and marks those in `from` for deletion
/// after verification. Replicas that can no longer be moved are omitted. Returns the started moves. Part of the transaction that has checked under
/// a lock that the rebalancing is still active.
pub async fn begin_moves(
    conn: &mut AsyncPgConnection,
    from: &str,
    to: &str,
    objects: &[ObjectId],
) -> Result<Amount> {
    let mut values = Values::default();
    let (from, to, objects) = (values.text(from), values.text(to), values.ids(objects));
    let priority = BEHIND.to_string();
    let queued = Queue::on_demand("t.object_id", &to, CopyReason::Rebalance, &priority);
    let queued = queued.insert("FROM these t", IfThere::Leave);
    let marked = MARK_MOVE.update(
        &format!("moves_to = {to}"),
        "FROM queued q",
        &format!("r.object_id = q.object_id AND r.store = {from}"),
    );
    let sql = format!(
        "WITH these AS MATERIALIZED ( \
             SELECT s.object_id, o.size FROM replicas s JOIN objects o ON o.id = s.object_id AND o.state = 'stored' \
             WHERE s.store = {from} AND s.object_id = ANY({objects}) AND s.state = 'present' AND s.verified_at IS NOT NULL \
               AND s.moves_to IS NULL AND {} AND NOT {} AND NOT {} ORDER BY s.object_id FOR UPDATE OF s SKIP LOCKED \
         ), queued AS ({queued} RETURNING r.object_id), marked AS ({marked} RETURNING r.object_id) \
         SELECT count(*) AS files, coalesce(sum(t.size), 0)::bigint AS bytes FROM marked m JOIN these t USING (object_id)",
        readable("s"),
        is_draining(&from),
        is_draining(&to)
    );
    Ok(values.query(&sql).get_result(conn).await?)
}

/// A replica being moved.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(table_name = crate::schema::replicas)]
pub struct Moving {
    /// Object.
    pub object_id: ObjectId,
    /// Key in every store.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// Source store.
    pub store: String,
    /// Destination store.
    #[diesel(sql_type = Text)]
    pub moves_to: String,
    /// Its state in the source.
    pub state: ReplicaState,
    /// State in the destination; `None` if it has no row there any more.
    #[diesel(sql_type = Nullable<ReplicaStateSql>)]
    pub there: Option<ReplicaState>,
    /// Whether it was ever verified there.
    #[diesel(sql_type = Bool)]
    pub was_there: bool,
    /// The multipart upload started there.
    pub upload_id: Option<String>,
    /// Whether it failed there permanently, long enough ago to be retried.
    #[diesel(sql_type = Bool)]
    pub is_due: bool,
    /// The error of the last attempt.
    pub last_error: Option<String>,
}

/// Moves in progress that are not being deleted now. Failed copies are due again after `patience`.
pub async fn moving(conn: &mut AsyncPgConnection, patience: Duration, limit: i64) -> Result<Vec<Moving>> {
    Ok(diesel::sql_query(
        "SELECT r.object_id, o.key, r.store, r.moves_to, r.state, d.state AS there, \
                d.verified_at IS NOT NULL AS was_there, d.upload_id, \
                coalesce(d.state = 'failed' AND d.not_before <= now() - make_interval(secs => $1), false) AS is_due, \
                d.last_error \
         FROM replicas r JOIN objects o ON o.id = r.object_id AND o.state = 'stored' \
         LEFT JOIN replicas d ON d.object_id = r.object_id AND d.store = r.moves_to \
         WHERE r.moves_to IS NOT NULL AND r.state <> 'evicting' ORDER BY r.object_id, r.store LIMIT $2",
    )
    .bind::<Double, _>(patience.as_secs_f64())
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// Moves in progress from one store to another.
#[derive(Debug, Clone, QueryableByName)]
struct Marked {
    #[diesel(sql_type = Text)]
    store: String,
    #[diesel(sql_type = Text)]
    moves_to: String,
    #[diesel(sql_type = Array<SqlUuid>)]
    objects: Vec<ObjectId>,
}

/// All moves in progress. They are processed by id: in a join, the planner would expect almost no rows on one side, and
/// read it again for each row of the other.
async fn marked(conn: &mut AsyncPgConnection) -> Result<Vec<Marked>> {
    Ok(diesel::sql_query(
        "SELECT store, moves_to, array_agg(object_id ORDER BY object_id) AS objects FROM replicas \
         WHERE moves_to IS NOT NULL GROUP BY store, moves_to ORDER BY store, moves_to",
    )
    .load(conn)
    .await?)
}

/// Makes failed copies of these objects into `to` due again. Returns the number of copies.
pub async fn retry_failed(conn: &mut AsyncPgConnection, to: &str, objects: &[ObjectId]) -> Result<usize> {
    let mut values = Values::default();
    let which = format!("r.store = {} AND r.object_id = ANY({})", values.text(to), values.ids(objects));
    Ok(values.query(&RETRY.update("", "", &which)).execute(conn).await?)
}

/// Makes all failed copies of moves in progress due again. Returns the number of copies.
pub async fn retry_all_failed(conn: &mut AsyncPgConnection) -> Result<usize> {
    let mut tried = 0;
    for Marked { moves_to, objects, .. } in marked(conn).await? {
        tried += retry_failed(conn, &moves_to, &objects).await?;
    }
    Ok(tried)
}

/// Removes the mark from the replicas `m` that `which` selects, and cancels the moves that were started for them.
/// Returns the number of replicas.
async fn unmark(conn: &mut AsyncPgConnection, values: Values, which: &str) -> Result<usize> {
    let unmarked = UNMARK_MOVE.update("", "FROM marked b", "r.object_id = b.object_id AND r.store = b.store");
    let sql = format!(
        "WITH marked AS ( \
             SELECT m.object_id, m.store, m.moves_to FROM replicas m \
             WHERE m.state <> 'evicting' AND {which} AND m.moves_to IS NOT NULL FOR UPDATE OF m \
         ), unmarked AS ({unmarked} RETURNING b.object_id, b.store, b.moves_to), counted AS ( \
             UPDATE rebalance_routes t SET files_begun = t.files_begun - u.files, bytes_begun = t.bytes_begun - u.bytes \
             FROM (SELECT x.store, x.moves_to, count(*) AS files, coalesce(sum(o.size), 0)::bigint AS bytes \
                   FROM unmarked x JOIN objects o ON o.id = x.object_id GROUP BY x.store, x.moves_to) u \
             WHERE t.from_store = u.store AND t.to_store = u.moves_to \
         ) SELECT 1 FROM unmarked"
    );
    Ok(values.query(&sql).execute(conn).await?)
}

/// Cancels the moves of these replicas: they stay in `store`. Their copies elsewhere are unchanged.
pub async fn cancel_moves(conn: &mut AsyncPgConnection, store: &str, objects: &[ObjectId]) -> Result<usize> {
    let mut values = Values::default();
    let which = format!("m.store = {} AND m.object_id = ANY({})", values.text(store), values.ids(objects));
    unmark(conn, values, &which).await
}

/// Cancels all moves from or to stores that are not among `stores`: they are being drained, or no longer exist.
pub async fn move_only_among(conn: &mut AsyncPgConnection, stores: &[&str]) -> Result<usize> {
    let mut values = Values::default();
    let stores = values.texts(stores);
    unmark(conn, values, &format!("NOT (m.store = ANY({stores}) AND m.moves_to = ANY({stores}))")).await
}

/// Deletes moves that were queued and never started: their replicas stay. Must run in a transaction. Returns the number
/// of copies.
pub async fn delete_queued_moves(conn: &mut AsyncPgConnection) -> Result<usize> {
    let mut forgotten = 0;
    for Marked { store, moves_to, objects } in marked(conn).await? {
        let mut values = Values::default();
        let which = format!(
            "r.store = {} AND r.object_id = ANY({}) AND r.copy_reason = 'rebalance' AND {}",
            values.text(moves_to),
            values.ids(&objects),
            untouched("r")
        );
        let sql = format!("{} RETURNING r.object_id", FORGET_QUEUED.delete("", &which));
        let gone = ObjectRow::ids(values.query(&sql).load(conn).await?);
        forgotten += cancel_moves(conn, &store, &gone).await?;
    }
    Ok(forgotten)
}

/// Marks copies of these objects that were started in a store and never verified, so that their data can be deleted;
/// the replicas in `from` stay. Must run in a transaction. Returns the marked copies.
pub async fn claim_unverified(
    conn: &mut AsyncPgConnection,
    from: &str,
    terms: Departure<'_>,
    objects: &[ObjectId],
) -> Result<Vec<EvictableCopy>> {
    let ours = claim_unproved_of(conn, terms, objects).await?;
    let ids: Vec<ObjectId> = ours.iter().map(|copy| copy.object_id).collect();
    cancel_moves(conn, from, &ids).await?;
    Ok(ours)
}
