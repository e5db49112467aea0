//! Replicas that move from one local store to another so that both are as full: begun, looked at on their way, and taken
//! back. A replica on its way has `moves_to`; it is queued there as every copy is, and the one here goes as from a store that
//! is being emptied: see [`super::claim_departures`].

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Double, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::ObjectRow;
use super::evict::Spare;
use super::moves::{BEHIND, Departure, claim_unproved_of};
use super::predicates::{is_draining, readable, untouched};
use super::transitions::{FORGET_QUEUED, IfThere, MARK_MOVE, Queue, RETRY, UNMARK_MOVE};
use crate::db::enums::{CopyReason, ReplicaState};
use crate::db::schema::sql_types::ReplicaState as ReplicaStateSql;
use crate::db::statement::Values;
use crate::error::Result;
use crate::ids::ObjectId;

/// What was begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Begun {
    /// Files.
    #[diesel(sql_type = BigInt)]
    pub files: i64,
    /// Bytes of those.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
}

/// Queues copies of these objects for the store `to`, after all others, and marks those in `from` that are to go once they are
/// proved there. What may not move any more is left out. Part of the transaction that has seen under a lock that this is
/// still wanted.
pub async fn begin_moves(
    conn: &mut AsyncPgConnection,
    from: &str,
    to: &str,
    objects: &[ObjectId],
) -> Result<Begun> {
    let mut values = Values::default();
    let (from, to, objects) = (values.text(from), values.text(to), values.ids(objects));
    let queued = Queue {
        object: "t.object_id",
        store: &to,
        reason: CopyReason::Rebalance,
        run: None,
        rule: None,
        storage_class: None,
        priority: &BEHIND.to_string(),
    };
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

/// A replica on its way.
#[derive(Debug, Clone, QueryableByName)]
pub struct Moving {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Key in every store.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// Where it is.
    #[diesel(sql_type = Text)]
    pub store: String,
    /// Where it goes.
    #[diesel(sql_type = Text)]
    pub moves_to: String,
    /// Its state where it is.
    #[diesel(sql_type = ReplicaStateSql)]
    pub state: ReplicaState,
    /// Its state where it goes; none when it has no row there any more.
    #[diesel(sql_type = Nullable<ReplicaStateSql>)]
    pub there: Option<ReplicaState>,
    /// Whether it was verified there once.
    #[diesel(sql_type = Bool)]
    pub was_there: bool,
    /// The multipart upload that was begun there.
    #[diesel(sql_type = Nullable<Text>)]
    pub upload_id: Option<String>,
    /// Whether it was given up there, long enough ago to be tried again.
    #[diesel(sql_type = Bool)]
    pub is_due: bool,
    /// What the last try met.
    #[diesel(sql_type = Nullable<Text>)]
    pub last_error: Option<String>,
}

/// What is on its way and not being deleted at this moment. What was given up is due again after `patience`.
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

/// What is on its way from one store to another.
#[derive(Debug, Clone, QueryableByName)]
struct Marked {
    #[diesel(sql_type = Text)]
    store: String,
    #[diesel(sql_type = Text)]
    moves_to: String,
    #[diesel(sql_type = Array<SqlUuid>)]
    objects: Vec<ObjectId>,
}

/// All that is on its way. What is done with it is done by its ids: joined, the planner would take one of both sides for
/// next to nothing, and read it again for each row of the other.
async fn marked(conn: &mut AsyncPgConnection) -> Result<Vec<Marked>> {
    Ok(diesel::sql_query(
        "SELECT store, moves_to, array_agg(object_id ORDER BY object_id) AS objects FROM replicas \
         WHERE moves_to IS NOT NULL GROUP BY store, moves_to ORDER BY store, moves_to",
    )
    .load(conn)
    .await?)
}

/// Copies of these objects into `to` that were given up are tried again. Returns how many.
pub async fn retry_given_up(conn: &mut AsyncPgConnection, to: &str, objects: &[ObjectId]) -> Result<usize> {
    let mut values = Values::default();
    let which = format!("r.store = {} AND r.object_id = ANY({})", values.text(to), values.ids(objects));
    Ok(values.query(&RETRY.update("", "", &which)).execute(conn).await?)
}

/// Copies of all that is on its way that were given up are tried again. Returns how many.
pub async fn retry_begun(conn: &mut AsyncPgConnection) -> Result<usize> {
    let mut tried = 0;
    for Marked { moves_to, objects, .. } in marked(conn).await? {
        tried += retry_given_up(conn, &moves_to, &objects).await?;
    }
    Ok(tried)
}

/// Takes the mark from the replicas `m` that `which` picks, and what was begun of their routes back. Returns how many.
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

/// These replicas stay in `store`. Whatever is of them elsewhere is left as it is.
pub async fn let_stay(conn: &mut AsyncPgConnection, store: &str, objects: &[ObjectId]) -> Result<usize> {
    let mut values = Values::default();
    let which = format!("m.store = {} AND m.object_id = ANY({})", values.text(store), values.ids(objects));
    unmark(conn, values, &which).await
}

/// Nothing moves from the stores that are not among `stores`, nor to them: they are being emptied, or not there any more.
pub async fn move_only_among(conn: &mut AsyncPgConnection, stores: &[&str]) -> Result<usize> {
    let mut values = Values::default();
    let stores = values.texts(stores);
    unmark(conn, values, &format!("NOT (m.store = ANY({stores}) AND m.moves_to = ANY({stores}))")).await
}

/// What was queued to move and never begun is not wanted any more: its replicas stay. Part of a transaction. Returns how many.
pub async fn forget_begun(conn: &mut AsyncPgConnection) -> Result<usize> {
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
        forgotten += let_stay(conn, &store, &gone).await?;
    }
    Ok(forgotten)
}

/// Marks copies of these objects that were begun in a store and never proved: whatever lies there of them is to be deleted,
/// and the replicas in `from` stay. Part of a transaction. Returns those that are ours.
pub async fn claim_unproved(
    conn: &mut AsyncPgConnection,
    from: &str,
    terms: Departure<'_>,
    objects: &[ObjectId],
) -> Result<Vec<Spare>> {
    let ours = claim_unproved_of(conn, terms, objects).await?;
    let ids: Vec<ObjectId> = ours.iter().map(|copy| copy.object_id).collect();
    let_stay(conn, from, &ids).await?;
    Ok(ours)
}
