//! Makes a plan: its items with the SELECT statement of a run, and their totals.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::{Group, Plan};
use crate::disable_statement_timeout;
use crate::error::{Error, Result};
use crate::ids::{PlanId, RunId, UserId};
use crate::policy::Policy;
use crate::replicas::{
    Among, Candidates, Until, Wanted, has_verified, is_kept, is_lost, retryable, waiting_repair,
};
use crate::runs::{self, RunScope};
use crate::schema::plans;
use crate::statement::Values;

/// Parameters of multipart uploads.
#[derive(Debug, Clone, Copy)]
pub struct Parts {
    /// Minimum size for multipart.
    pub threshold: u64,
    /// Size of a part.
    pub size: u64,
    /// Part sizes are multiples of this.
    pub block: u64,
    /// Maximum number of parts.
    pub most: u64,
    /// Files smaller than this are counted separately.
    pub small: u64,
}

/// Inserts a plan without items, made by the rules with this fingerprint, that can be executed until `expires_at`.
pub async fn insert(
    conn: &mut AsyncPgConnection,
    requested_by: Option<UserId>,
    scope: &RunScope,
    fingerprint: &str,
    expires_at: DateTime<Utc>,
) -> Result<Plan> {
    let scope = serde_json::to_value(scope)
        .map_err(|error| Error::Internal(format!("cannot encode the scope of a plan: {error}")))?;
    Ok(diesel::insert_into(plans::table)
        .values((
            plans::id.eq(PlanId::new()),
            plans::requested_by.eq(requested_by),
            plans::scope.eq(scope),
            plans::fingerprint.eq(fingerprint),
            plans::expires_at.eq(expires_at),
        ))
        .returning(Plan::as_returning())
        .get_result(conn)
        .await?)
}

/// Fills a plan with everything that a run of `scope` would copy now, and computes the totals. Changes nothing else.
///
/// Part of a transaction, in which it disables the statement timeout, because a plan may cover millions of rows.
pub async fn fill(
    conn: &mut AsyncPgConnection,
    plan: PlanId,
    policy: &Policy<'_>,
    scope: &RunScope,
    parts: Parts,
) -> Result<Vec<Group>> {
    disable_statement_timeout(conn).await?;
    for store in policy.targets() {
        let wanted = Wanted { policy, store, scope, until: Until::Now };
        let absent = Candidates::absent(conn, &wanted).await?;
        let waiting = Candidates::waiting(conn, &wanted).await?;
        for (mut candidates, row) in [(absent, Row::None), (waiting, Row::Waiting)] {
            while let Some(among) = candidates.next(conn).await? {
                copies(conn, plan, &wanted, &among, row).await?;
            }
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
        .map_err(|error| Error::Internal(format!("cannot encode the totals of a plan: {error}")))?;
    diesel::update(plans::table.find(plan)).set(plans::groups.eq(json)).execute(conn).await?;
    Ok(groups)
}

/// The file of an object is chosen in the same way as in a claim.
const NAMED: &str = "LEFT JOIN LATERAL ( \
         SELECT v.file_id, v.number, f.filename, f.current_version FROM file_versions v JOIN files f ON f.id = v.file_id \
         WHERE v.object_id = w.object_id AND f.deleted_at IS NULL ORDER BY v.created_at LIMIT 1 \
     ) named ON true";

/// The state of the planned copies.
#[derive(Debug, Clone, Copy)]
enum Row {
    /// No row: they are new.
    None,
    /// Queued for a run, failed or lost.
    Waiting,
    /// Queued in the active run, and therefore part of a run that is requested now.
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
    let again = retryable(wanted, "d");
    let fence = among.fence();
    let a_row = |which: &str| {
        format!(
            "EXISTS (SELECT 1 FROM replicas d WHERE d.object_id = o.id AND d.store = {store} AND {which} {fence})"
        )
    };
    let there = match row {
        Row::None => format!("NOT {}", a_row("true")),
        Row::Waiting => a_row(&format!("{again} AND (d.state <> 'queued' OR d.run_id IS NULL)")),
        Row::QueuedIn(run) => {
            let run = values.id(run);
            format!(
                "o.id IN (SELECT d.object_id FROM replicas d WHERE d.run_id = {run} AND d.state = 'queued' AND d.store = {store})"
            )
        }
    };
    let select = wanted.select(&mut values, among, &there);
    // A multipart upload that has started continues unchanged.
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

/// Repairs that a run of everything makes regardless of the rules: see `queue_repairs`.
async fn repairs(conn: &mut AsyncPgConnection, plan: PlanId, locals: &[&str], again: bool) -> Result<usize> {
    let mut values = Values::default();
    let (plan, locals) = (values.id(plan), values.texts(locals));
    let failed = if again { "OR (w.state = 'failed' AND w.verified_at IS NOT NULL)" } else { "" };
    let (lost, waiting) = (is_lost("w"), waiting_repair("w"));
    let (kept, has_a_source) = (is_kept("w.store"), has_verified("w.object_id", "s.store <> w.store"));
    let sql = format!(
        "INSERT INTO plan_items (plan_id, object_id, store, rule, storage_class, priority, size, file_id, filename, version, \
                                 current_version) \
         SELECT {plan}, w.object_id, w.store, coalesce(w.rule, 'default'), w.storage_class, w.priority, o.size, \
                named.file_id, named.filename, named.number, named.current_version \
         FROM replicas w JOIN objects o ON o.id = w.object_id AND o.state = 'stored' {NAMED} \
         WHERE w.store <> ALL({locals}) AND {kept} \
           AND ({lost} OR ({waiting}) {failed}) AND {has_a_source} \
         ON CONFLICT DO NOTHING"
    );
    Ok(values.query(&sql).execute(conn).await?)
}

async fn sums(conn: &mut AsyncPgConnection, plan: PlanId, parts: Parts) -> Result<Vec<Group>> {
    let mut values = Values::default();
    let plan = values.id(plan);
    let mut number = |number: u64| values.number(crate::signed(number));
    let (threshold, size, block, most) =
        (number(parts.threshold), number(parts.size), number(parts.block), number(parts.most));
    let small = number(parts.small);
    // The part size is increased if the configured one would result in too many parts; see `tiering::copy::parts`.
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
