//! A plan made: its items by the same SELECT by which a run is planned, and their sums.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{Group, Plan};
use crate::db::may_take_long;
use crate::db::policy::Policy;
use crate::db::replicas::{
    Among, Candidates, Until, Wanted, has_verified, is_kept, taken_up_again, waiting_repair,
};
use crate::db::runs::{self, RunScope};
use crate::db::schema::plans;
use crate::db::statement::Values;
use crate::error::{Error, Result};
use crate::ids::{PlanId, RunId, UserId};

/// A new plan.
#[derive(Debug)]
pub struct NewPlan<'a> {
    /// Which account asks, if any.
    pub requested_by: Option<UserId>,
    /// What it is limited to.
    pub scope: &'a RunScope,
    /// Of the rules in force.
    pub fingerprint: &'a str,
    /// Until when it can be executed.
    pub expires_at: DateTime<Utc>,
}

/// How files go in parts.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// Size above which they do.
    pub threshold: u64,
    /// Size of a part.
    pub size: u64,
    /// A part's size is a multiple of this.
    pub block: u64,
    /// Parts at most.
    pub most: u64,
    /// Files of less than this are counted by themselves.
    pub small: u64,
}

/// Inserts a plan without items.
pub async fn insert(conn: &mut AsyncPgConnection, plan: &NewPlan<'_>) -> Result<Plan> {
    let scope = serde_json::to_value(plan.scope)
        .map_err(|error| Error::Internal(format!("a plan's scope could not be written: {error}")))?;
    Ok(diesel::insert_into(plans::table)
        .values((
            plans::id.eq(PlanId::new()),
            plans::requested_by.eq(plan.requested_by),
            plans::scope.eq(scope),
            plans::fingerprint.eq(plan.fingerprint),
            plans::expires_at.eq(plan.expires_at),
        ))
        .returning(Plan::as_returning())
        .get_result(conn)
        .await?)
}

/// Fills a plan with what a run of `scope` would copy if it were asked for now, and sums it up. Changes nothing else.
///
/// Part of a transaction: lifts the statement timeout for it, because a plan may cover millions of rows.
pub async fn fill(
    conn: &mut AsyncPgConnection,
    plan: PlanId,
    policy: &Policy<'_>,
    scope: &RunScope,
    parts: Parts,
) -> Result<Vec<Group>> {
    may_take_long(conn).await?;
    for store in policy.targets() {
        let wanted = Wanted { policy, store, scope, until: Until::Now };
        let mut absent = Candidates::absent(conn, &wanted).await?;
        while let Some(among) = absent.next(conn).await? {
            copies(conn, plan, &wanted, &among, Row::None).await?;
        }
        let mut waiting = Candidates::waiting(conn, &wanted).await?;
        while let Some(among) = waiting.next(conn).await? {
            copies(conn, plan, &wanted, &among, Row::Waiting).await?;
        }
        if let Some(run) = runs::active(conn).await? {
            copies(conn, plan, &wanted, &Among::Everything, Row::QueuedIn(run.id)).await?;
        }
    }
    if scope.is_everything() {
        repairs(conn, plan, &policy.locals, scope.retry_failed).await?;
    }
    let groups = sums(conn, plan, parts).await?;
    let json = serde_json::to_value(&groups)
        .map_err(|error| Error::Internal(format!("a plan's sums could not be written: {error}")))?;
    diesel::update(plans::table.find(plan)).set(plans::groups.eq(json)).execute(conn).await?;
    Ok(groups)
}

/// The file that stands for an object is chosen as the claim of a copy does it.
const NAMED: &str = "LEFT JOIN LATERAL ( \
         SELECT v.file_id, v.number, f.filename, f.current_version FROM file_versions v JOIN files f ON f.id = v.file_id \
         WHERE v.object_id = w.object_id AND f.deleted_at IS NULL ORDER BY v.created_at LIMIT 1 \
     ) named ON true";

/// What is known of the copies that are planned.
#[derive(Debug, Clone, Copy)]
enum Row {
    /// Nothing: they are new.
    None,
    /// They wait for a run, were given up or are lost.
    Waiting,
    /// They are queued for the run that is going on, and are part of what one would do that is asked for now.
    QueuedIn(RunId),
}

async fn copies(
    conn: &mut AsyncPgConnection,
    plan: PlanId,
    wanted: &Wanted<'_>,
    among: &Among,
    row: Row,
) -> Result<usize> {
    let mut values = Values::default();
    let (plan, store) = (values.id(plan), values.text(wanted.store));
    let again = taken_up_again(wanted.scope);
    let fence = among.fence();
    let a_row = |which: &str| {
        format!(
            "EXISTS (SELECT 1 FROM replicas d WHERE d.object_id = o.id AND d.store = {store} AND {which} {fence})"
        )
    };
    let there = match row {
        Row::None => format!("NOT {}", a_row("true")),
        Row::Waiting => a_row(&format!("d.state {again} AND (d.state <> 'queued' OR d.run_id IS NULL)")),
        Row::QueuedIn(run) => {
            let run = values.id(run);
            format!(
                "o.id IN (SELECT d.object_id FROM replicas d WHERE d.run_id = {run} AND d.state = 'queued' AND d.store = {store})"
            )
        }
    };
    let select = wanted.select(&mut values, among, &there);
    // An upload that has begun goes on as it was begun.
    let sql = format!(
        "INSERT INTO plan_items (plan_id, object_id, store, rule, storage_class, priority, size, file_id, filename, version, \
                                 current_version) \
         SELECT {plan}, w.object_id, {store}, \
                CASE WHEN b.upload_id IS NULL THEN w.rule ELSE b.rule END, \
                CASE WHEN b.upload_id IS NULL THEN w.storage_class ELSE b.storage_class END, \
                CASE WHEN b.upload_id IS NULL THEN w.priority ELSE b.priority END, \
                w.size, named.file_id, named.filename, named.number, named.current_version \
         FROM ({select}) w LEFT JOIN replicas b ON b.object_id = w.object_id AND b.store = {store} {NAMED}"
    );
    Ok(values.query(&sql).execute(conn).await?)
}

/// What a run of everything makes again, whatever the rules say by now: see `queue_repairs`.
async fn repairs(conn: &mut AsyncPgConnection, plan: PlanId, locals: &[&str], again: bool) -> Result<usize> {
    let mut values = Values::default();
    let (plan, locals) = (values.id(plan), values.texts(locals));
    let failed = if again { "OR (w.state = 'failed' AND w.verified_at IS NOT NULL)" } else { "" };
    let waiting = waiting_repair("w");
    let (kept, has_a_source) = (is_kept("w.store"), has_verified("w.object_id", "s.store <> w.store"));
    let sql = format!(
        "INSERT INTO plan_items (plan_id, object_id, store, rule, storage_class, priority, size, file_id, filename, version, \
                                 current_version) \
         SELECT {plan}, w.object_id, w.store, coalesce(w.rule, 'default'), w.storage_class, w.priority, o.size, \
                named.file_id, named.filename, named.number, named.current_version \
         FROM replicas w JOIN objects o ON o.id = w.object_id AND o.state = 'stored' {NAMED} \
         WHERE w.store <> ALL({locals}) AND {kept} \
           AND (w.state = 'lost' OR ({waiting}) {failed}) AND {has_a_source} \
         ON CONFLICT DO NOTHING"
    );
    Ok(values.query(&sql).execute(conn).await?)
}

async fn sums(conn: &mut AsyncPgConnection, plan: PlanId, parts: Parts) -> Result<Vec<Group>> {
    let mut values = Values::default();
    let plan = values.id(plan);
    let mut number = |number: u64| values.number(crate::db::signed(number));
    let (threshold, size, block, most) =
        (number(parts.threshold), number(parts.size), number(parts.block), number(parts.most));
    let small = number(parts.small);
    // The size of a part grows where the configured one would make too many; see `copy_parts`.
    let sql = format!(
        "SELECT rule, store, storage_class, count(*) AS files, sum(size)::bigint AS bytes, \
                sum(CASE WHEN size > {threshold} THEN 2 + (size + part - 1) / part ELSE 1 END)::bigint AS requests, \
                count(*) FILTER (WHERE size < {small}) AS small_files, \
                coalesce(sum(size) FILTER (WHERE size < {small}), 0)::bigint AS small_bytes \
         FROM (SELECT *, (greatest({size}, (size + {most} - 1) / {most}) + {block} - 1) / {block} * {block} AS part \
               FROM plan_items WHERE plan_id = {plan}) i \
         GROUP BY rule, store, storage_class ORDER BY rule, store, storage_class"
    );
    Ok(values.query(&sql).load(conn).await?)
}
