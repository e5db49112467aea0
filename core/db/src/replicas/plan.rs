//! The statements of planning: set-based and counted. [`super::Planning`] sends them in bounded steps.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Nullable, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::candidates::Among;
use super::planning::Planning;
use super::predicates::{is_lost, untouched};
use super::transitions::{BEGIN_CLEANUP, FORGET_QUEUED, IfThere, LEAVE_RUN, Queue};
use crate::enums::CopyReason;
use crate::error::Result;
use crate::ids::RunId;
use crate::policy::{DEFAULT_RULE, Policy, Reach};
use crate::runs::RunScope;
use crate::statement::{Value, Values};

/// A number of files, and their bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Amount {
    /// Files.
    #[diesel(sql_type = BigInt)]
    pub files: i64,
    /// Their bytes.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
}

impl Amount {
    /// Adds another count.
    pub fn add(&mut self, more: Self) {
        self.files += more.files;
        self.bytes += more.bytes;
    }
}

/// The conditions of a scope on `f`, a row of `files`. Only the given ones are included, so that each kind of scope
/// gets its own query plan.
pub(crate) fn scope_sql(scope: &RunScope, values: &mut Values) -> String {
    let mut sql = "f.deleted_at IS NULL".to_owned();
    if let Some(user) = scope.user_id {
        sql = format!("{sql} AND f.owner_id = {}", values.id(user));
    }
    if let Some(folder) = scope.folder_id {
        sql = format!("{sql} AND f.folder_id = {}", values.id(folder));
    }
    if let Some(files) = &scope.file_ids {
        let files = values.bind(Value::Uuids(files.iter().map(|file| file.0).collect()));
        sql = format!("{sql} AND f.id = ANY({files})");
    }
    sql
}

/// Until when an object must have been acknowledged to be planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Before the run was requested: the normal rule.
    RunRequested(RunId),
    /// Until now: for files that join an active run.
    Now,
}

/// The plan for one store.
#[derive(Debug)]
pub(crate) struct Wanted<'p> {
    pub(crate) policy: &'p Policy<'p>,
    pub(crate) store: &'p str,
    pub(crate) scope: &'p RunScope,
    pub(crate) until: Until,
}

impl Wanted<'_> {
    /// The condition that `o`, a row of `objects`, was acknowledged in time and can be copied to the store from another
    /// one.
    fn can_be_copied(&self, values: &mut Values, among: &Among) -> String {
        let until = match self.until {
            Until::RunRequested(run) => {
                format!("o.stored_at <= (SELECT created_at FROM runs WHERE id = {})", values.id(run))
            }
            Until::Now => "true".to_owned(),
        };
        let store = values.text(self.store);
        format!(
            "o.state = 'stored' AND {until} AND EXISTS (SELECT 1 FROM replicas s \
             WHERE s.object_id = o.id AND s.state = 'present' AND s.store <> {store} {})",
            among.fence()
        )
    }

    /// `(object_id, size, rule, storage_class, priority)` of every acknowledged object `among` those in the scope that
    /// the policy assigns to the store, that can be copied from another one, and for which `there`, a condition on `o`,
    /// holds.
    pub(crate) fn select(&self, values: &mut Values, among: &Among, there: &str) -> String {
        let scope = scope_sql(self.scope, values);
        let can_be_copied =
            format!("{} AND {} AND {there}", among_sql(among, values), self.can_be_copied(values, among));
        let fence = among.fence();
        if self.policy.rules.is_empty() {
            return format!(
                "SELECT o.id AS object_id, o.size, '{DEFAULT_RULE}'::text AS rule, NULL::text AS storage_class, \
                        0::smallint AS priority \
                 FROM objects o WHERE {can_be_copied} \
                   AND EXISTS (SELECT 1 FROM file_versions v JOIN files f ON f.id = v.file_id \
                               WHERE v.object_id = o.id AND {scope} {fence})"
            );
        }
        let number = self.policy.number(values, "coalesce(f.last_accessed_at, o.stored_at)");
        let targets = Policy::as_table(&self.policy.wanted_in(self.store), values);
        // If several versions share an object, the first rule that matches any of them decides.
        let decided = match among {
            Among::Everything => format!(
                "SELECT o.id AS object_id, o.size, min({number}) AS number \
                 FROM objects o JOIN file_versions v ON v.object_id = o.id JOIN files f ON f.id = v.file_id {joins} \
                 WHERE {scope} AND {can_be_copied} GROUP BY o.id, o.size",
                joins = self.policy.joins(Reach::All),
            ),
            Among::Objects(_) => format!(
                "SELECT o.id AS object_id, o.size, d.number \
                 FROM (SELECT * FROM objects o WHERE {can_be_copied} OFFSET 0) o CROSS JOIN LATERAL ( \
                     SELECT min(x.number) AS number FROM ( \
                         SELECT {number} AS number FROM file_versions v JOIN files f ON f.id = v.file_id {joins} \
                         WHERE v.object_id = o.id AND {scope} \
                     ) x \
                 ) d",
                joins = self.policy.joins(Reach::Some),
            ),
        };
        format!(
            "SELECT c.object_id, c.size, t.rule, t.storage_class, t.priority FROM ({decided}) c \
             JOIN {targets} AS t (number, rule, storage_class, priority) ON t.number = c.number"
        )
    }
}

/// The condition on `o`, a row of `objects`, that a statement includes it.
fn among_sql(among: &Among, values: &mut Values) -> String {
    match among {
        Among::Everything => "true".to_owned(),
        Among::Objects(objects) => {
            let objects = objects.iter().map(|object| object.0).collect();
            format!("o.id = ANY({})", values.bind(Value::Uuids(objects)))
        }
    }
}

/// Condition: a run takes over a copy `row` because of its state. Failed and suspect copies are taken over on request,
/// either all of them or those of the selected files; otherwise failed ones once they are due again.
pub(crate) fn retryable(wanted: &Wanted<'_>, row: &str) -> String {
    if wanted.scope.retry_failed || wanted.scope.file_ids.is_some() {
        return format!("{row}.state IN ('queued', 'failed', 'lost')");
    }
    format!(
        "({row}.state = 'queued' OR {} OR ({row}.state = 'failed' AND {} <= now()))",
        is_lost(row),
        wanted.policy.patience.due_sql(row)
    )
}

/// The copies that the rows `w` of [`Wanted::select`] require in `store`.
pub(super) fn wanted_copies<'s>(store: &'s str, reason: CopyReason, run: Option<&'s str>) -> Queue<'s> {
    Queue {
        object: "w.object_id",
        store,
        reason,
        run,
        rule: Some("w.rule"),
        storage_class: Some("w.storage_class"),
        priority: "w.priority",
    }
}

/// Queues every stored object in the scope for the stores where the policy requires it and it does not exist, and takes
/// over copies that earlier runs left queued, under the current rule. Returns what this adds to the run. Idempotent.
///
/// All steps of [`Planning`] in the transaction of the caller: for scopes that name their files.
pub async fn plan_until(
    conn: &mut AsyncPgConnection,
    run: RunId,
    policy: &Policy<'_>,
    scope: &RunScope,
    until: Until,
) -> Result<Amount> {
    let mut planning = Planning::new(run, policy, scope, until);
    let mut planned = Amount::default();
    while let Some(step) = planning.step(conn).await? {
        planned.add(step.added);
    }
    Ok(planned)
}

/// Only the active run has a queue. A copy that returned to another run at the moment it ended has no run. Returns the
/// number of these copies; those after the first thousands are left for the next call.
pub(super) async fn take_out_of_other_runs(conn: &mut AsyncPgConnection, run: RunId) -> Result<usize> {
    let mut taken = 0;
    for direction in ["<", ">"] {
        let mut values = Values::default();
        // Uses the index of claims, whose end is reached immediately if there are none.
        let others = format!(
            "FROM ( \
                 SELECT object_id, store FROM replicas WHERE state = 'queued' AND run_id {direction} {} \
                 ORDER BY run_id LIMIT 1000 \
             ) s",
            values.id(run)
        );
        let sql = LEAVE_RUN.update("", &others, "r.object_id = s.object_id AND r.store = s.store");
        taken += values.query(&sql).execute(conn).await?;
    }
    Ok(taken)
}

/// Removes queued and failed copies that no rule selects any more and that were never verified: otherwise the local
/// copy would wait for them forever. If a copy was attempted, its store may contain something: it is deleted as if a
/// worker had died during its eviction.
pub(super) async fn drop_unwanted(
    conn: &mut AsyncPgConnection,
    wanted: &Wanted<'_>,
    among: &Among,
) -> Result<usize> {
    let Wanted { policy, store, .. } = wanted;
    let mut values = Values::default();
    let here = values.text(*store);
    let waits = |row: &str| {
        format!(
            "{row}.store = {here} AND {row}.verified_at IS NULL AND {row}.upload_id IS NULL \
             AND ({row}.state = 'failed' OR ({row}.state = 'queued' AND {row}.run_id IS NULL))"
        )
    };
    let still_wanted = if policy.wanted_in(store).is_empty() {
        "false".to_owned()
    } else {
        let there = a_row(&waits("d"), among);
        format!("r.object_id IN (SELECT w.object_id FROM ({}) w)", wanted.select(&mut values, among, &there))
    };
    let (these, fence) = (among_sql(among, &mut values), among.fence());
    let scope = scope_sql(wanted.scope, &mut values);
    let can_be_copied = wanted.can_be_copied(&mut values, among);
    let unwanted = format!(
        "SELECT r.object_id, r.store, {} AS untouched FROM replicas r JOIN objects o ON o.id = r.object_id \
         WHERE {these} AND {} AND {can_be_copied} AND NOT {still_wanted} \
           AND EXISTS (SELECT 1 FROM file_versions v JOIN files f ON f.id = v.file_id \
                       WHERE v.object_id = o.id AND {scope} {fence})",
        untouched("r"),
        waits("r")
    );
    let forgotten = FORGET_QUEUED
        .delete("USING unwanted u", "u.untouched AND r.object_id = u.object_id AND r.store = u.store");
    let marked = BEGIN_CLEANUP.update(
        "lease_token = gen_random_uuid(), lease_worker = gen_random_uuid(), lease_until = now()",
        "FROM unwanted u",
        "NOT u.untouched AND r.object_id = u.object_id AND r.store = u.store",
    );
    let sql = format!(
        "WITH unwanted AS MATERIALIZED ({unwanted} FOR UPDATE OF r), forgotten AS ({forgotten}) {marked}"
    );
    Ok(values.query(&sql).execute(conn).await?)
}

/// Condition: an object `o` has a replica `d` that satisfies `which`.
fn a_row(which: &str, among: &Among) -> String {
    format!("EXISTS (SELECT 1 FROM replicas d WHERE d.object_id = o.id AND {which} {})", among.fence())
}

/// Current state of the copies that are queued for a run.
#[derive(Debug, Clone, Copy)]
pub(super) enum Before {
    /// No row.
    Nothing,
    /// A row that is queued, failed or lost.
    Waiting,
}

/// Queues the copies that a run requires and that have no row yet, or that are waiting.
pub(super) async fn queue(
    conn: &mut AsyncPgConnection,
    run: RunId,
    wanted: &Wanted<'_>,
    among: &Among,
    before: Before,
) -> Result<Amount> {
    let mut values = Values::default();
    let (run, store) = (values.id(run), values.text(wanted.store));
    let waits = |row: &str| {
        let again = retryable(wanted, row);
        format!("{again} AND ({row}.state <> 'queued' OR {row}.run_id IS DISTINCT FROM {run})")
    };
    let waits_there = waits("r");
    let (there, if_there) = match before {
        Before::Nothing => (format!("NOT {}", a_row(&format!("d.store = {store}"), among)), IfThere::Leave),
        Before::Waiting => {
            let waits = format!("d.store = {store} AND {}", waits("d"));
            (a_row(&waits, among), IfThere::TakeOver(&waits_there))
        }
    };
    let select = wanted.select(&mut values, among, &there);
    let queued =
        wanted_copies(&store, CopyReason::Policy, Some(&run)).insert(&format!("FROM ({select}) w"), if_there);
    let sql = format!(
        "WITH added AS ({queued} RETURNING r.object_id) \
         SELECT count(*) AS files, coalesce(sum(o.size), 0)::bigint AS bytes \
         FROM added a JOIN objects o ON o.id = a.object_id"
    );
    Ok(values.query(&sql).get_result(conn).await?)
}

/// The number of queued copies of a run.
pub async fn queued_in(conn: &mut AsyncPgConnection, run: RunId) -> Result<Amount> {
    Ok(diesel::sql_query(
        "SELECT count(*) AS files, coalesce(sum(o.size), 0)::bigint AS bytes \
         FROM replicas r JOIN objects o ON o.id = r.object_id WHERE r.run_id = $1 AND r.state = 'queued'",
    )
    .bind::<SqlUuid, _>(run)
    .get_result(conn)
    .await?)
}

/// When the next queued copy of a waiting run is due. Reads the first copy of each priority, in the order of claims.
pub async fn next_due(conn: &mut AsyncPgConnection, run: RunId) -> Result<Option<DateTime<Utc>>> {
    #[derive(QueryableByName)]
    struct Due {
        #[diesel(sql_type = Nullable<Timestamptz>)]
        at: Option<DateTime<Utc>>,
    }
    let mut values = Values::default();
    let run = values.id(run);
    let first = |which: &str| {
        format!(
            "SELECT priority, not_before FROM replicas WHERE run_id = {run} AND state = 'queued' AND {which} \
             ORDER BY priority DESC, not_before LIMIT 1"
        )
    };
    let sql = format!(
        "WITH RECURSIVE heads AS ( \
             ({}) UNION ALL SELECT n.priority, n.not_before FROM heads f CROSS JOIN LATERAL ({}) n \
         ) SELECT min(not_before) AS at FROM heads",
        first("true"),
        first("priority < f.priority")
    );
    let due: Due = values.query(&sql).get_result(conn).await?;
    Ok(due.at)
}
