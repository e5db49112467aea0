//! Replicas that are moved from one store to another, above all by drains: what is blocked, what already exists
//! elsewhere, what is queued, and what can be deleted here. Nothing is deleted without another verified replica,
//! checked under its lock.

use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::Until;
use super::candidates::Among;
use super::evict::EvictableCopy;
use super::plan::{Wanted, wanted_copies};
use super::predicates::{has_readable, has_replica, is_draining, readable, untouched};
use super::transitions::{
    BEGIN_CLEANUP, BEGIN_RELOCATION_EVICTION, FORGET_QUEUED, FORGET_UPLOAD, IfThere, LEAVE_RUN, Lease, Queue,
    RETRY,
};
use super::{Count, ObjectRow};
use crate::enums::{CopyReason, ReplicaState};
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::policy::Policy;
use crate::runs::RunScope;
use crate::statement::Values;

/// Priority of copies into cloud stores that are made because a store is being drained: above that of every rule.
pub const MOVES: i16 = 1_000;
/// The priority of local copies without a waiting user: after all others.
pub const BEHIND: i16 = -1;
/// The rule of copies that were made only because their store was drained.
pub const DRAIN_RULE: &str = "drain";

/// A replica in a store that is being drained, and the progress of its move.
#[derive(Debug, Clone, QueryableByName)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
#[diesel(table_name = crate::schema::replicas)]
pub struct Leaving {
    /// Object.
    pub object_id: ObjectId,
    /// State here.
    pub state: ReplicaState,
    /// Whether one of its destinations has a readable verified copy.
    #[diesel(sql_type = Bool)]
    pub is_safe: bool,
    /// Whether a copy to one of them is in progress.
    #[diesel(sql_type = Bool)]
    pub is_on_its_way: bool,
    /// Whether a copy failed recently.
    #[diesel(sql_type = Bool)]
    pub has_failed: bool,
    /// Whether there is a readable verified copy as a source.
    #[diesel(sql_type = Bool)]
    pub has_a_source: bool,
    /// The error of the last attempt.
    pub last_error: Option<String>,
}

/// The next replicas of `store` in object order, each with its progress towards the stores `to`. A permanently failed
/// copy counts as failed for `patience`.
pub async fn leaving(
    conn: &mut AsyncPgConnection,
    store: &str,
    to: &[&str],
    patience: Duration,
    after: ObjectId,
    limit: i64,
) -> Result<Vec<Leaving>> {
    let mut values = Values::default();
    let (store, to, after) = (values.text(store), values.texts(to), values.id(after));
    let patience = values.seconds(patience);
    let in_these = format!("s.store = ANY({to})");
    let given_up = format!("{in_these} AND s.not_before > now() - make_interval(secs => {patience})");
    // First the batch, with its limit in the text, so that the planner expects a small batch.
    let sql = format!(
        "WITH picked AS MATERIALIZED ( \
             SELECT r.object_id, r.state FROM replicas r \
             WHERE r.store = {store} AND r.object_id > {after} AND r.state IN ('present', 'lost', 'queued', 'failed') \
               AND (r.verified_at IS NOT NULL OR r.state IN ('present', 'lost')) \
               AND EXISTS (SELECT 1 FROM objects o WHERE o.id = r.object_id AND o.state = 'stored' OFFSET 0) \
             ORDER BY r.object_id LIMIT {limit} \
         ) \
         SELECT p.object_id, p.state, {} AS is_safe, {} AS is_on_its_way, {} AS has_failed, {} AS has_a_source, \
                (SELECT min(s.last_error) FROM replicas s WHERE s.object_id = p.object_id AND {in_these} \
                 AND s.state IN ('queued', 'copying', 'failed')) AS last_error \
         FROM picked p ORDER BY p.object_id",
        has_readable("p.object_id", &in_these),
        has_replica("p.object_id", "'queued', 'copying', 'evicting'", &in_these),
        has_replica("p.object_id", "'failed'", &given_up),
        has_readable("p.object_id", "true"),
    );
    Ok(values.query(&sql).load(conn).await?)
}

/// Subtracts the copies `gone` (run, previous state, size) from the totals of their runs.
const OUT_OF_TOTALS: &str = "UPDATE runs SET files_total = files_total - g.files, bytes_total = bytes_total - g.bytes \
     FROM (SELECT run_id, count(*) AS files, coalesce(sum(size), 0)::bigint AS bytes FROM gone \
           WHERE state = 'queued' AND run_id IS NOT NULL GROUP BY run_id) g \
     WHERE runs.id = g.run_id AND runs.finished_at IS NULL";

/// Queues copies of these objects for the store `to`, under `rule` or else the rule of the replica in `from`. Failed
/// and lost copies are retried; existing and queued ones are left unchanged. Does nothing if `from` is no longer being
/// drained. Returns the number of copies queued by this call.
pub async fn queue_moves(
    conn: &mut AsyncPgConnection,
    from: &str,
    to: &str,
    rule: Option<&str>,
    priority: i16,
    objects: &[ObjectId],
) -> Result<usize> {
    let mut values = Values::default();
    let (from, to, objects) = (values.text(from), values.text(to), values.ids(objects));
    let rule = format!("coalesce({}, m.rule)", values.text_or_null(rule));
    let moving = format!(
        "FROM replicas m JOIN objects o ON o.id = m.object_id AND o.state = 'stored' \
         WHERE m.store = {from} AND m.object_id = ANY({objects}) AND {} AND NOT {} ORDER BY m.object_id",
        is_draining(&from),
        is_draining(&to)
    );
    let priority = priority.to_string();
    let queue = Queue::on_demand("m.object_id", &to, CopyReason::Drain, &priority);
    let queue = Queue { rule: Some(&rule), ..queue };
    Ok(values.query(&queue.insert(&moving, IfThere::Again("true"))).execute(conn).await?)
}

/// Those of these objects that have no copy in any of the stores `to`: neither present, nor in progress, nor recently
/// failed.
pub async fn without_place(
    conn: &mut AsyncPgConnection,
    objects: &[ObjectId],
    to: &[&str],
) -> Result<Vec<ObjectId>> {
    let mut values = Values::default();
    let (objects, to) = (values.ids(objects), values.texts(to));
    let sql = format!(
        "SELECT o.object_id FROM unnest({objects}) AS o (object_id) WHERE NOT {}",
        has_replica(
            "o.object_id",
            "'queued', 'copying', 'present', 'evicting'",
            &format!("s.store = ANY({to})")
        )
    );
    Ok(ObjectRow::ids(values.query(&sql).load(conn).await?))
}

/// Makes failed copies of the objects leaving `from` in the stores `to` due immediately. Returns the number of copies.
pub async fn retry_moves(conn: &mut AsyncPgConnection, from: &str, to: &[&str]) -> Result<usize> {
    let mut values = Values::default();
    let which = format!(
        "m.object_id = r.object_id AND m.store = {} AND m.verified_at IS NOT NULL AND r.store = ANY({})",
        values.text(from),
        values.texts(to)
    );
    Ok(values.query(&RETRY.update("", "FROM replicas m", &which)).execute(conn).await?)
}

/// Queues copies of these objects in every store where the policy requires one and none exists, to be made immediately.
/// Objects that no rule requires anywhere, or that belong to no file, are skipped. Returns the number of copies.
pub async fn queue_by_policy(
    conn: &mut AsyncPgConnection,
    from: &str,
    policy: &Policy<'_>,
    objects: &[ObjectId],
) -> Result<usize> {
    let (scope, mut queued) = (RunScope::default(), 0);
    let among = Among::Objects(objects.to_vec());
    for store in policy.targets() {
        let wanted = Wanted { policy, store, scope: &scope, until: Until::Now };
        let mut values = Values::default();
        let (from, store) = (values.text(from), values.text(store));
        let missing = format!(
            "NOT EXISTS (SELECT 1 FROM replicas d WHERE d.object_id = o.id AND d.store = {store} \
             AND d.state NOT IN ('failed', 'lost') {})",
            among.fence()
        );
        let select = wanted.select(&mut values, &among, &missing);
        let queue = wanted_copies(&store, CopyReason::Drain, None);
        let queue = Queue { priority: &MOVES.to_string(), ..queue };
        let from = format!("FROM ({select}) w WHERE {}", is_draining(&from));
        queued += values.query(&queue.insert(&from, IfThere::Again("true"))).execute(conn).await?;
    }
    Ok(queued)
}

/// Deletes copies that are queued outside of runs only because a store was being drained, and that were never started.
/// Returns the number of copies.
pub async fn cancel_queued_moves(conn: &mut AsyncPgConnection) -> Result<usize> {
    let which = format!("{} AND r.run_id IS NULL AND r.copy_reason = 'drain'", untouched("r"));
    Ok(Values::default().query(&FORGET_QUEUED.delete("", &which)).execute(conn).await?)
}

/// Deletes copies that are queued for a store that is being drained and that were never started. Returns the number of
/// copies.
pub async fn delete_queued(conn: &mut AsyncPgConnection, store: &str) -> Result<i64> {
    let mut values = Values::default();
    let which = format!("o.id = r.object_id AND r.store = {} AND {}", values.text(store), untouched("r"));
    let gone = FORGET_QUEUED.delete("USING objects o", &which);
    let sql = format!(
        "WITH gone AS ({gone} RETURNING r.run_id, r.state, o.size), counted AS ({OUT_OF_TOTALS}) \
         SELECT count(*) AS count FROM gone"
    );
    let row: Count = values.query(&sql).get_result(conn).await?;
    Ok(row.count)
}

/// Moves queued copies to a store that is being drained, if they were started before, out of their runs: no run can
/// make them, and none may wait for them.
pub async fn leave_runs(conn: &mut AsyncPgConnection, store: &str) -> Result<i64> {
    let mut values = Values::default();
    let store = values.text(store);
    let left = LEAVE_RUN.update(
        "",
        "FROM picked p JOIN objects o ON o.id = p.object_id",
        &format!("r.object_id = p.object_id AND r.store = {store}"),
    );
    let sql = format!(
        "WITH picked AS ( \
             SELECT r.object_id, r.run_id, r.state FROM replicas r \
             WHERE r.store = {store} AND r.state = 'queued' AND r.run_id IS NOT NULL ORDER BY r.object_id FOR UPDATE \
         ), gone AS ({left} RETURNING p.run_id, p.state, o.size), counted AS ({OUT_OF_TOTALS}) \
         SELECT count(*) AS count FROM gone"
    );
    let row: Count = values.query(&sql).get_result(conn).await?;
    Ok(row.count)
}

/// Marks the next copies into a store that is being drained that were started and never verified, so that their data
/// can be deleted. Returns the marked copies.
pub async fn claim_leftovers(
    conn: &mut AsyncPgConnection,
    terms: Departure<'_>,
    limit: i64,
) -> Result<Vec<EvictableCopy>> {
    let mut values = Values::default();
    let store = values.text(terms.store);
    let which = format!("{} ORDER BY r.object_id LIMIT {}", is_draining(&store), values.number(limit));
    begin_cleanup(conn, values, terms, &store, &which).await
}

/// Marks copies of these objects that were started in a store, outside of runs, and never verified, so that their data
/// can be deleted. Must run in a transaction. Returns the marked copies.
pub(super) async fn claim_unproved_of(
    conn: &mut AsyncPgConnection,
    terms: Departure<'_>,
    objects: &[ObjectId],
) -> Result<Vec<EvictableCopy>> {
    let mut values = Values::default();
    let store = values.text(terms.store);
    let which =
        format!("r.object_id = ANY({}) AND r.run_id IS NULL ORDER BY r.object_id", values.ids(objects));
    begin_cleanup(conn, values, terms, &store, &which).await
}

/// Marks the copies `r` in `store` that were started and never verified and that `which` selects, and subtracts them
/// from the totals of their runs.
async fn begin_cleanup(
    conn: &mut AsyncPgConnection,
    mut values: Values,
    terms: Departure<'_>,
    store: &str,
    which: &str,
) -> Result<Vec<EvictableCopy>> {
    let marked = BEGIN_CLEANUP.update(
        &terms.lease().set(&mut values),
        "FROM picked p JOIN objects o ON o.id = p.object_id AND o.state = 'stored'",
        &format!("r.object_id = p.object_id AND r.store = {store}"),
    );
    let sql = format!(
        "WITH picked AS MATERIALIZED ( \
             SELECT r.object_id, r.run_id, r.state FROM replicas r \
             WHERE r.store = {store} AND r.state IN ('queued', 'failed') AND r.verified_at IS NULL AND r.upload_id IS NULL \
               AND {which} FOR UPDATE SKIP LOCKED \
         ), gone AS ( \
             {marked} RETURNING r.object_id, o.key, o.size, r.last_used_at AS at, p.run_id, p.state \
         ), counted AS ({OUT_OF_TOTALS}) SELECT object_id, key, size, at FROM gone"
    );
    Ok(values.query(&sql).load(conn).await?)
}

/// A copy that was interrupted during a multipart upload.
#[derive(Debug, Clone, QueryableByName)]
pub struct BrokenOff {
    /// Object.
    #[diesel(sql_type = SqlUuid)]
    pub object_id: ObjectId,
    /// Key in the store.
    #[diesel(sql_type = Text)]
    pub key: String,
    /// The upload.
    #[diesel(sql_type = Text)]
    pub upload_id: String,
}

/// Interrupted copies to a store that wait to be resumed, at most `limit`.
pub async fn interrupted(conn: &mut AsyncPgConnection, store: &str, limit: i64) -> Result<Vec<BrokenOff>> {
    Ok(diesel::sql_query(
        "SELECT r.object_id, o.key, r.upload_id FROM replicas r JOIN objects o ON o.id = r.object_id \
         WHERE r.store = $1 AND r.state IN ('queued', 'failed') AND r.upload_id IS NOT NULL ORDER BY r.object_id LIMIT $2",
    )
    .bind::<Text, _>(store)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// Records that a multipart upload into a store that is being drained was aborted. Returns whether its copy was still
/// interrupted.
pub async fn delete_interrupted(conn: &mut AsyncPgConnection, store: &str, copy: &BrokenOff) -> Result<bool> {
    let mut values = Values::default();
    let which = format!(
        "r.object_id = {} AND r.store = {} AND r.upload_id = {}",
        values.id(copy.object_id),
        values.text(store),
        values.text(copy.upload_id.as_str())
    );
    let sql = format!(
        "WITH forgotten AS ({} RETURNING r.object_id, r.store), parts AS ( \
             DELETE FROM transfer_parts p USING forgotten f WHERE p.object_id = f.object_id AND p.store = f.store \
         ) SELECT 1 FROM forgotten",
        FORGET_UPLOAD.update("", "", &which)
    );
    Ok(values.query(&sql).execute(conn).await? == 1)
}

/// The parameters of evicting replicas from a store that they are moved from.
#[derive(Debug, Clone, Copy)]
pub struct Departure<'a> {
    /// The store.
    pub store: &'a str,
    /// The destination stores.
    pub to: &'a [&'a str],
    /// The cloud stores: permanent primary locations.
    pub primary_stores: &'a [&'a str],
    /// The evicting worker.
    pub worker: WorkerId,
    /// Lease token.
    pub token: LeaseToken,
    /// Duration of the lease.
    pub lease: Duration,
}

impl Departure<'_> {
    fn lease(&self) -> Lease {
        Lease { worker: self.worker, token: self.token, length: self.lease }
    }
}

/// The replicas that may be evicted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departing {
    /// Present ones: their eviction can be cancelled without another proof.
    Sound,
    /// Also those recorded as lost, suspect or queued again: each must be verified before its eviction is cancelled,
    /// because that makes it present.
    Doubtful,
}

impl Departing {
    /// Their states, as a list in SQL.
    const fn states(self) -> &'static str {
        match self {
            Self::Sound => "'present'",
            Self::Doubtful => "'present', 'lost', 'queued', 'failed'",
        }
    }
}

/// Marks replicas as `evicting` that leave their store, because it is being drained or because they were to be moved to
/// one of the stores `to`, and that one of these stores holds readable and verified. Both rows are locked, so that of
/// two concurrent evictions only one succeeds; rows locked by others are skipped. The primary store of their files
/// changes to another verified replica. Replicas that are no longer `which` ones are skipped: a sound one may have become
/// suspect since it was selected. Must run in a transaction. Returns the marked replicas.
pub async fn claim_departures(
    conn: &mut AsyncPgConnection,
    terms: Departure<'_>,
    which: Departing,
    objects: &[ObjectId],
) -> Result<Vec<EvictableCopy>> {
    let (mut values, states) = (Values::default(), which.states());
    let (store, ids) = (values.text(terms.store), values.ids(objects));
    let sql = format!(
        "SELECT r.object_id FROM replicas r WHERE r.store = {store} AND r.object_id = ANY({ids}) AND r.upload_id IS NULL \
         AND r.state IN ({states}) AND (r.verified_at IS NOT NULL OR r.state IN ('present', 'lost')) \
         ORDER BY r.object_id FOR UPDATE SKIP LOCKED"
    );
    let locked = ObjectRow::ids(values.query(&sql).load(conn).await?);
    let mut values = Values::default();
    let (store, to, ids) = (values.text(terms.store), values.texts(terms.to), values.ids(&locked));
    let sql = format!(
        "SELECT s.object_id FROM replicas s WHERE s.object_id = ANY({ids}) AND s.store = ANY({to}) AND s.store <> {store} \
         AND s.state = 'present' AND s.verified_at IS NOT NULL AND {} \
         ORDER BY s.object_id, s.store FOR UPDATE OF s SKIP LOCKED",
        readable("s")
    );
    let safe = ObjectRow::ids(values.query(&sql).load(conn).await?);
    // Checked again: under the locks neither row can change.
    let mut values = Values::default();
    let (store, to, ids) = (values.text(terms.store), values.texts(terms.to), values.ids(&safe));
    let primary_stores = values.texts(terms.primary_stores);
    let draining = is_draining(&store);
    let leaving = BEGIN_RELOCATION_EVICTION.update(
        &format!(
            "evict_reason = CASE WHEN {draining} THEN 'drain' ELSE 'rebalance' END::evict_reason, \
             moves_to = CASE WHEN {draining} THEN NULL ELSE r.moves_to END, {}",
            terms.lease().set(&mut values)
        ),
        "FROM objects o",
        &format!(
            "o.id = r.object_id AND o.state = 'stored' AND r.object_id = ANY({ids}) AND r.store = {store} \
             AND r.state IN ({states}) AND ({draining} OR (r.moves_to = ANY({to}) AND NOT {})) AND {}",
            is_draining("r.moves_to"),
            has_readable("r.object_id", &format!("s.store = ANY({to})"))
        ),
    );
    let sql = format!(
        "WITH leaving AS ( \
             {leaving} RETURNING r.object_id, o.key, o.size, r.last_used_at AS at \
         ), homes AS ( \
             UPDATE files f SET storage_location = h.store, synced_at = h.synced_at \
             FROM leaving l JOIN LATERAL ( \
                 SELECT s.store, CASE WHEN s.store = ANY({primary_stores}) THEN s.verified_at END AS synced_at FROM replicas s \
                 WHERE s.object_id = l.object_id AND s.store <> {store} AND s.state = 'present' \
                 ORDER BY s.store <> ALL({primary_stores}), s.store LIMIT 1 \
             ) h ON true JOIN file_versions v ON v.object_id = l.object_id \
             WHERE f.id = v.file_id AND f.current_version = v.number AND f.storage_location = {store} \
         ) SELECT object_id, key, size, at FROM leaving"
    );
    Ok(values.query(&sql).load(conn).await?)
}
