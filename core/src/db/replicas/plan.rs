//! What a run shall carry: planned in sets, counted, and given back when the run ends early.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::candidates::{Among, Candidates};
use super::predicates::untouched;
use super::transitions::{BEGIN_CLEANUP, FORGET_QUEUED, IfThere, LEAVE_RUN, Queue};
use crate::db::enums::{CopyReason, ReplicaState};
use crate::db::may_take_long;
use crate::db::policy::{DEFAULT_RULE, Policy, Reach};
use crate::db::runs::RunScope;
use crate::db::schema::replicas;
use crate::db::statement::{Value, Values};
use crate::error::Result;
use crate::ids::RunId;

/// What a plan added to a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Planned {
    /// Copies to make.
    #[diesel(sql_type = BigInt)]
    pub files: i64,
    /// Bytes to move.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
}

impl Planned {
    /// More of it.
    pub fn add(&mut self, more: Self) {
        self.files += more.files;
        self.bytes += more.bytes;
    }
}

/// The conditions of a scope on `f`, a row of `files`. Only what is asked for appears, so that each scope gets a plan of
/// its own.
pub(in crate::db) fn scope_sql(scope: &RunScope, values: &mut Values) -> String {
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

/// Up to when an object must have been acknowledged to be in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Before the run was asked for: the classic nightly rule.
    RunRequested(RunId),
    /// By now: for what joins a run that is already going.
    Now,
}

/// What is planned for one store.
#[derive(Debug)]
pub(in crate::db) struct Wanted<'p> {
    pub(in crate::db) policy: &'p Policy<'p>,
    pub(in crate::db) store: &'p str,
    pub(in crate::db) scope: &'p RunScope,
    pub(in crate::db) until: Until,
}

impl Wanted<'_> {
    /// That `o`, a row of `objects`, was acknowledged in time and can be copied into the store from another one.
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

    /// `(object_id, size, rule, storage_class, priority)` of every acknowledged object `among` those and in the scope that
    /// the policy wants in the store, that can be copied from another one, and for which `there`, a condition on `o`, holds.
    pub(in crate::db) fn select(&self, values: &mut Values, among: &Among, there: &str) -> String {
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
        // Where several versions have the same bytes, the first rule that matches any of them decides.
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

/// The condition on `o`, a row of `objects`, that a statement looks at it.
fn among_sql(among: &Among, values: &mut Values) -> String {
    match among {
        Among::Everything => "true".to_owned(),
        Among::Objects(objects) => {
            let objects = objects.iter().map(|object| object.0).collect();
            format!("o.id = ANY({})", values.bind(Value::Uuids(objects)))
        }
    }
}

/// The states from which a run takes copies up again: given up ones come back when asked for, all of them or those of
/// the files that were named.
pub(in crate::db) fn taken_up_again(scope: &RunScope) -> &'static str {
    if scope.retry_failed || scope.file_ids.is_some() {
        "IN ('queued', 'failed', 'lost')"
    } else {
        "IN ('queued', 'lost')"
    }
}

/// The copies that the rows `w` of [`Wanted::select`] want in `store`.
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

/// Queues every acknowledged object in the scope for the stores where the policy wants it and it is not yet, and takes
/// over what earlier runs left queued, under the rule that holds now. Returns what that adds to the run. Idempotent.
///
/// Part of a transaction: lifts the statement timeout for it, because a plan may cover millions of rows.
pub async fn plan_until(
    conn: &mut AsyncPgConnection,
    run: RunId,
    policy: &Policy<'_>,
    scope: &RunScope,
    until: Until,
) -> Result<Planned> {
    may_take_long(conn).await?;
    take_out_of_other_runs(conn, run).await?;
    let mut planned = Planned::default();
    for store in policy.targets() {
        let wanted = Wanted { policy, store, scope, until };
        let mut absent = Candidates::absent(conn, &wanted).await?;
        while let Some(among) = absent.next(conn).await? {
            planned.add(queue(conn, run, &wanted, &among, Before::Nothing).await?);
        }
        let mut waiting = Candidates::waiting(conn, &wanted).await?;
        while let Some(among) = waiting.next(conn).await? {
            planned.add(queue(conn, run, &wanted, &among, Before::Waiting).await?);
        }
    }
    for store in &policy.clouds {
        let wanted = Wanted { policy, store, scope, until };
        if policy.rules.is_empty() && policy.usual().contains(store) {
            continue;
        }
        let mut waiting = Candidates::waiting(conn, &wanted).await?;
        while let Some(among) = waiting.next(conn).await? {
            drop_unwanted(conn, &wanted, &among).await?;
        }
    }
    Ok(planned)
}

/// Only the active run has a queue. What came back to another one in the moment in which that ended is without a run.
async fn take_out_of_other_runs(conn: &mut AsyncPgConnection, run: RunId) -> Result<()> {
    for direction in ["<", ">"] {
        loop {
            let mut values = Values::default();
            // By the index of claims, whose end is reached at once where there are none.
            let others = format!(
                "FROM ( \
                     SELECT object_id, store FROM replicas WHERE state = 'queued' AND run_id {direction} {} \
                     ORDER BY run_id LIMIT 1000 \
                 ) s",
                values.id(run)
            );
            let sql = LEAVE_RUN.update("", &others, "r.object_id = s.object_id AND r.store = s.store");
            if values.query(&sql).execute(conn).await? == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Takes out of the queue, and off the list of what was given up, what no rule wants any more and was never proved: the
/// local copy would wait for it for ever. Where somebody has tried to make it the store may hold something of it: that is
/// deleted as if a worker had died that was freeing it.
async fn drop_unwanted(conn: &mut AsyncPgConnection, wanted: &Wanted<'_>, among: &Among) -> Result<usize> {
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

/// That an object `o` has a replica `d` of which `which` holds.
fn a_row(which: &str, among: &Among) -> String {
    format!("EXISTS (SELECT 1 FROM replicas d WHERE d.object_id = o.id AND {which} {})", among.fence())
}

/// What is there of the copies that are queued for a run.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// No row.
    Nothing,
    /// A row that waits, was given up, or is lost.
    Waiting,
}

/// Queues what is wanted for a run, of what has no row yet or of what waits.
async fn queue(
    conn: &mut AsyncPgConnection,
    run: RunId,
    wanted: &Wanted<'_>,
    among: &Among,
    before: Before,
) -> Result<Planned> {
    let mut values = Values::default();
    let (run, store) = (values.id(run), values.text(wanted.store));
    let again = taken_up_again(wanted.scope);
    let waits = |row: &str| {
        format!("{row}.state {again} AND ({row}.state <> 'queued' OR {row}.run_id IS DISTINCT FROM {run})")
    };
    let waits_there = waits("r");
    let (there, if_there) = match before {
        Before::Nothing => (format!("NOT {}", a_row(&format!("d.store = {store}"), among)), IfThere::Leave),
        Before::Waiting => {
            let waits = format!("d.store = {store} AND {}", waits("d"));
            (a_row(&waits, among), IfThere::TakeUp(&waits_there))
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

/// What is queued for a run at this moment.
pub async fn queued_in(conn: &mut AsyncPgConnection, run: RunId) -> Result<Planned> {
    Ok(diesel::sql_query(
        "SELECT count(*) AS files, coalesce(sum(o.size), 0)::bigint AS bytes \
         FROM replicas r JOIN objects o ON o.id = r.object_id WHERE r.run_id = $1 AND r.state = 'queued'",
    )
    .bind::<SqlUuid, _>(run)
    .get_result(conn)
    .await?)
}

/// Takes what is only queued out of a run that stops. It stays queued, for the next run.
pub async fn unassign(conn: &mut AsyncPgConnection, run: RunId) -> Result<usize> {
    let mut values = Values::default();
    let which = format!("r.run_id = {}", values.id(run));
    Ok(values.query(&LEAVE_RUN.update("", "", &which)).execute(conn).await?)
}

/// When the next queued copy of a run is due, for a run that waits.
pub async fn next_due(conn: &mut AsyncPgConnection, run: RunId) -> Result<Option<DateTime<Utc>>> {
    Ok(replicas::table
        .filter(replicas::run_id.eq(run))
        .filter(replicas::state.eq(ReplicaState::Queued))
        .select(diesel::dsl::min(replicas::not_before))
        .first(conn)
        .await?)
}
