//! What a run shall carry: planned in sets, counted, and given back when the run ends early.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::candidates::{Among, Candidates};
use super::moves::UNTOUCHED;
use crate::db::enums::ReplicaState;
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

/// Queues every acknowledged object in the scope for the stores where the policy wants it and it is not yet, and takes
/// over what earlier runs left queued, under the rule that holds now. Answers what that adds to the run. Idempotent.
///
/// Part of a transaction: lifts the statement timeout for it, because a plan may cover millions of rows.
pub async fn plan_until(
    conn: &mut AsyncPgConnection,
    run: RunId,
    policy: &Policy<'_>,
    scope: &RunScope,
    until: Until,
) -> Result<Planned> {
    diesel::sql_query("SET LOCAL statement_timeout = '15min'").execute(conn).await?;
    take_out_of_other_runs(conn, run).await?;
    let mut planned = Planned::default();
    for store in policy.targets() {
        let wanted = Wanted { policy, store, scope, until };
        let mut absent = Candidates::absent(conn, &wanted).await?;
        while let Some(among) = absent.next(conn).await? {
            planned.add(queue_new(conn, run, &wanted, &among).await?);
        }
        let mut waiting = Candidates::waiting(conn, &wanted).await?;
        while let Some(among) = waiting.next(conn).await? {
            planned.add(adopt(conn, run, &wanted, &among).await?);
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
        // By the index of claims, whose end is reached at once where there are none.
        let sql = format!(
            "UPDATE replicas r SET run_id = NULL FROM ( \
                 SELECT object_id, store FROM replicas WHERE state = 'queued' AND run_id {direction} $1 \
                 ORDER BY run_id LIMIT 1000 \
             ) s WHERE r.object_id = s.object_id AND r.store = s.store AND r.state = 'queued'"
        );
        while diesel::sql_query(&sql).bind::<SqlUuid, _>(run).execute(conn).await? > 0 {}
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
        let there = format!(
            "EXISTS (SELECT 1 FROM replicas d WHERE d.object_id = o.id AND {} {})",
            waits("d"),
            among.fence()
        );
        format!("r.object_id IN (SELECT w.object_id FROM ({}) w)", wanted.select(&mut values, among, &there))
    };
    let (these, fence) = (among_sql(among, &mut values), among.fence());
    let scope = scope_sql(wanted.scope, &mut values);
    let can_be_copied = wanted.can_be_copied(&mut values, among);
    let unwanted = format!(
        "SELECT r.object_id, r.store, {UNTOUCHED} AS untouched FROM replicas r JOIN objects o ON o.id = r.object_id \
         WHERE {these} AND {} AND {can_be_copied} AND NOT {still_wanted} \
           AND EXISTS (SELECT 1 FROM file_versions v JOIN files f ON f.id = v.file_id \
                       WHERE v.object_id = o.id AND {scope} {fence})",
        waits("r")
    );
    let sql = format!(
        "WITH unwanted AS MATERIALIZED ({unwanted} FOR UPDATE OF r), forgotten AS ( \
             DELETE FROM replicas r USING unwanted u \
             WHERE u.untouched AND r.object_id = u.object_id AND r.store = u.store \
         ) UPDATE replicas r SET state = 'evicting', run_id = NULL, lease_token = gen_random_uuid(), \
                  lease_worker = gen_random_uuid(), lease_until = now() \
           FROM unwanted u WHERE NOT u.untouched AND r.object_id = u.object_id AND r.store = u.store"
    );
    Ok(values.query(&sql).execute(conn).await?)
}

async fn queue_new(
    conn: &mut AsyncPgConnection,
    run: RunId,
    wanted: &Wanted<'_>,
    among: &Among,
) -> Result<Planned> {
    let mut values = Values::default();
    let (run, store) = (values.id(run), values.text(wanted.store));
    let missing = format!(
        "NOT EXISTS (SELECT 1 FROM replicas d WHERE d.object_id = o.id AND d.store = {store} {})",
        among.fence()
    );
    let select = wanted.select(&mut values, among, &missing);
    let sql = format!(
        "WITH added AS ( \
             INSERT INTO replicas (object_id, store, state, run_id, rule, storage_class, priority) \
             SELECT w.object_id, {store}, 'queued', {run}, w.rule, w.storage_class, w.priority FROM ({select}) w \
             ON CONFLICT DO NOTHING RETURNING object_id \
         ) SELECT count(*) AS files, coalesce(sum(o.size), 0)::bigint AS bytes \
           FROM added a JOIN objects o ON o.id = a.object_id"
    );
    Ok(values.query(&sql).get_result(conn).await?)
}

async fn adopt(
    conn: &mut AsyncPgConnection,
    run: RunId,
    wanted: &Wanted<'_>,
    among: &Among,
) -> Result<Planned> {
    let mut values = Values::default();
    let (run, store) = (values.id(run), values.text(wanted.store));
    let again = taken_up_again(wanted.scope);
    let waits = |row: &str| {
        format!(
            "{row}.store = {store} AND {row}.state {again} AND ({row}.state <> 'queued' OR {row}.run_id IS DISTINCT FROM {run})"
        )
    };
    let there = format!(
        "EXISTS (SELECT 1 FROM replicas d WHERE d.object_id = o.id AND {} {})",
        waits("d"),
        among.fence()
    );
    let select = wanted.select(&mut values, among, &there);
    // An upload that has begun goes on as it was begun.
    let sql = format!(
        "WITH added AS (UPDATE replicas r SET state = 'queued', run_id = {run}, not_before = now(), \
                attempts = CASE WHEN r.state = 'queued' THEN r.attempts ELSE 0 END, \
                abandoned = CASE WHEN r.state = 'queued' THEN r.abandoned ELSE 0 END, \
                rule = CASE WHEN r.upload_id IS NULL THEN w.rule ELSE r.rule END, \
                storage_class = CASE WHEN r.upload_id IS NULL THEN w.storage_class ELSE r.storage_class END, \
                priority = CASE WHEN r.upload_id IS NULL THEN w.priority ELSE r.priority END \
         FROM ({select}) w WHERE r.object_id = w.object_id AND {} RETURNING w.size \
         ) SELECT count(*) AS files, coalesce(sum(size), 0)::bigint AS bytes FROM added",
        waits("r")
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
    Ok(diesel::update(
        replicas::table.filter(replicas::run_id.eq(run)).filter(replicas::state.eq(ReplicaState::Queued)),
    )
    .set(replicas::run_id.eq(None::<RunId>))
    .execute(conn)
    .await?)
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
