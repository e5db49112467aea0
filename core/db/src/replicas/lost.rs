//! Copies that are no longer present: marked as lost, queued again from another verified copy, or recovered.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::moves::BEHIND;
use super::predicates::{has_readable, is_kept, is_lost, is_suspect, waiting_repair};
use super::transitions::{CONDEMN, LOSE, REPAIR, SUSPECT, Transition};
use super::{Count, Flag, count_by_state};
use crate::enums::ReplicaState;
use crate::error::Result;
use crate::ids::{ObjectId, RunId};
use crate::statement::{Value, Values};

/// Marks a missing or corrupt replica as lost. With `seen`, only if it has not been verified again since then. The
/// primary location of its files moves to another verified copy: to one in the cloud stores `primary_stores`, if there is one.
///
/// Returns the number of verified copies that remain, or `None` if the replica was no longer present and nothing was
/// changed.
pub async fn mark_lost(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    primary_stores: &[&str],
    error: &str,
    seen: Option<DateTime<Utc>>,
) -> Result<Option<i64>> {
    lose(conn, &LOSE, (object, store), primary_stores, error, seen).await
}

/// Like [`mark_lost`], but the copy is only suspect: it is not repaired yet.
pub async fn mark_suspect(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    primary_stores: &[&str],
    error: &str,
    seen: Option<DateTime<Utc>>,
) -> Result<Option<i64>> {
    lose(conn, &SUSPECT, (object, store), primary_stores, error, seen).await
}

async fn lose(
    conn: &mut AsyncPgConnection,
    transition: &Transition,
    (object, store): (ObjectId, &str),
    primary_stores: &[&str],
    error: &str,
    seen: Option<DateTime<Utc>>,
) -> Result<Option<i64>> {
    let mut values = Values::default();
    let (object, store, primary_stores) =
        (values.id(object), values.text(store), values.texts(primary_stores));
    let error = format!("last_error = {}", values.text(error));
    let seen = values.bind(Value::Time(seen));
    let which = format!(
        "r.object_id = {object} AND r.store = {store} AND ({seen} IS NULL OR r.verified_at = {seen})"
    );
    let sql = format!(
        "WITH lost AS ({} RETURNING r.object_id, r.store), others AS ( \
             SELECT store, verified_at FROM replicas WHERE object_id = {object} AND store <> {store} AND state = 'present' \
         ), home AS ( \
             SELECT store, CASE WHEN store = ANY({primary_stores}) THEN verified_at END AS synced_at FROM others \
             ORDER BY store <> ALL({primary_stores}), store LIMIT 1 \
         ), homes AS ( \
             UPDATE files f SET storage_location = h.store, synced_at = h.synced_at \
             FROM home h, lost l JOIN file_versions v ON v.object_id = l.object_id \
             WHERE f.id = v.file_id AND f.current_version = v.number AND f.storage_location = l.store \
         ) SELECT (SELECT count(*) FROM others) AS count FROM lost",
        transition.update(&error, "", &which)
    );
    let row: Option<Count> = values.query(&sql).get_result(conn).await.optional()?;
    Ok(row.map(|row| row.count))
}

/// Records that a suspect copy was found missing or wrong again, so that it is repaired like any lost one; with `seen`,
/// only if it has not been verified again since then. Returns the number of verified copies that remain, or `None` if
/// the copy was not suspect and nothing was changed.
pub async fn condemn(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    error: &str,
    seen: Option<DateTime<Utc>>,
) -> Result<Option<i64>> {
    let mut values = Values::default();
    let (object, store) = (values.id(object), values.text(store));
    let error = format!("last_error = {}", values.text(error));
    let seen = values.bind(Value::Time(seen));
    let which = format!(
        "r.object_id = {object} AND r.store = {store} AND {} AND ({seen} IS NULL OR r.verified_at = {seen})",
        is_suspect("r")
    );
    let sql = format!(
        "WITH condemned AS ({} RETURNING r.object_id) \
         SELECT (SELECT count(*) FROM replicas s WHERE s.object_id = {object} AND s.state = 'present') AS count \
         FROM condemned",
        CONDEMN.update(&error, "", &which)
    );
    let row: Option<Count> = values.query(&sql).get_result(conn).await.optional()?;
    Ok(row.map(|row| row.count))
}

/// Condition: a replica `r` of a stored object `o` can be repaired, because another verified copy is readable and the
/// replica's store is not being drained.
fn can_be_repaired() -> String {
    let has_a_source = has_readable("r.object_id", "s.store <> r.store");
    format!("o.id = r.object_id AND o.state = 'stored' AND {has_a_source} AND {}", is_kept("r.store"))
}

/// The queued repairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Repairs {
    /// Copies to make.
    #[diesel(sql_type = BigInt)]
    pub copies: i64,
    /// Their bytes.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
    /// The number of them in the run.
    #[diesel(sql_type = BigInt)]
    pub joined: i64,
    /// Their bytes.
    #[diesel(sql_type = BigInt)]
    pub joined_bytes: i64,
}

impl Repairs {
    /// Adds another count.
    pub fn add(&mut self, more: Self) {
        self.copies += more.copies;
        self.bytes += more.bytes;
        self.joined += more.joined;
        self.joined_bytes += more.joined_bytes;
    }
}

/// A condition on `r`, a row of `replicas`; its argument is the placeholder of the local stores.
type Condition = fn(&str) -> String;

/// Repairs queued in one statement.
const REPAIRED: i64 = 2_000;

/// Queues lost replicas that have another verified copy, except suspect ones, and repairs left in the queue by
/// earlier runs; with `again`, also permanently failed repairs. For `run`, or for the next run. Repairs in the stores
/// `locals` have no run: they are made on demand, after requests with a waiting user. Stores that are being drained are
/// excluded. Some thousands at most: call it until it queues none.
pub async fn queue_repairs(
    conn: &mut AsyncPgConnection,
    locals: &[&str],
    run: Option<RunId>,
    again: bool,
) -> Result<Repairs> {
    // One statement per state, each using its own partial index.
    let states: [(bool, Condition); 3] = [
        (true, |_| is_lost("r")),
        (again, |_| "r.state = 'failed' AND r.verified_at IS NOT NULL".to_owned()),
        // Copies into the local stores are already pending.
        (run.is_some(), |locals| format!("{} AND r.store <> ALL({locals})", waiting_repair("r"))),
    ];
    let mut queued = Repairs::default();
    for (_, which) in states.into_iter().filter(|(wanted, _)| *wanted) {
        let mut values = Values::default();
        let (run, locals) = (values.bind(Value::Uuid(run.map(Into::into))), values.texts(locals));
        let sets = format!(
            "run_id = CASE WHEN r.store = ANY({locals}) THEN NULL ELSE {run} END, \
             priority = CASE WHEN r.store = ANY({locals}) THEN {BEHIND} ELSE r.priority END, \
             object_size = o.size"
        );
        let which = format!("{} AND {}", which(&locals), can_be_repaired());
        let repaired = REPAIR.update(
            &sets,
            "FROM next JOIN objects o ON o.id = next.object_id",
            "r.object_id = next.object_id AND r.store = next.store",
        );
        let sql = format!(
            "WITH next AS MATERIALIZED ( \
                 SELECT r.object_id, r.store FROM replicas r, objects o WHERE {which} \
                 LIMIT {REPAIRED} FOR UPDATE OF r SKIP LOCKED \
             ), queued AS ({repaired} RETURNING o.size, r.run_id) \
             SELECT count(*) AS copies, coalesce(sum(size), 0)::bigint AS bytes, count(run_id) AS joined, \
                    coalesce(sum(size) FILTER (WHERE run_id IS NOT NULL), 0)::bigint AS joined_bytes FROM queued"
        );
        queued.add(values.query(&sql).get_result(conn).await?);
    }
    Ok(queued)
}

/// Whether a lost replica has another verified copy. Cheap: reads only replicas in trouble.
pub async fn can_repair(conn: &mut AsyncPgConnection) -> Result<bool> {
    let sql = format!(
        "SELECT EXISTS (SELECT 1 FROM replicas r, objects o WHERE {} AND {}) AS yes",
        is_lost("r"),
        can_be_repaired()
    );
    let row: Flag = Values::default().query(&sql).get_result(conn).await?;
    Ok(row.yes)
}

/// The number of objects with a lost copy and no verified one.
pub async fn objects_lost(conn: &mut AsyncPgConnection) -> Result<i64> {
    // The index of lost copies contains the failed ones too, of which there may be many.
    let counts = count_by_state(conn).await?;
    if !counts.iter().any(|count| count.state == ReplicaState::Lost) {
        return Ok(0);
    }
    let row: Count = diesel::sql_query(
        "SELECT count(DISTINCT r.object_id) AS count FROM replicas r JOIN objects o ON o.id = r.object_id \
         WHERE r.state = 'lost' AND o.state = 'stored' \
           AND NOT EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = r.object_id AND s.state = 'present')",
    )
    .get_result(conn)
    .await?;
    Ok(row.count)
}
