//! Starts a requested run: plans it in steps, or queues the items of a saved plan, and marks it as running. Each step is a
//! transaction of its own that locks the row of the run, so that a cancellation, or a commit that counts in that row,
//! waits for one step at most. Steps are idempotent: a worker that dies leaves a queued run that any worker plans again.

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::config::TransferOrder;
use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::enums::RunStatus;
use crate::db::listen;
use crate::db::plans::Execution;
use crate::db::policy::Policy;
use crate::db::replicas::{self, PlannedStep, Planning, Until};
use crate::db::runs::{self, NewRun, Run, RunScope};
use crate::error::{Error, Result};
use crate::ids::{PlanId, RunId};
use crate::tiering::policy;

use super::plan;
use super::requests::{record_request, with_repairs};
use super::stop::{self, RELEASED};

/// Plans the queued run, if no other worker is planning it, and starts it.
///
/// # Errors
/// Any database error; the run stays queued.
pub async fn start_queued(context: &Context) -> Result<Option<Run>> {
    let mut conn = context.db.conn().await?;
    let queued = runs::active(&mut conn).await?.filter(|run| run.status == RunStatus::Queued);
    let Some(run) = queued else { return Ok(None) };
    if run.is_stopping() {
        drop(conn);
        stop::settle(context, run.id).await?;
        return Ok(None);
    }
    let policy = policy::in_force(context, &mut conn).await?;
    let scope = run.scope()?;
    let source = match scope.plan_id {
        Some(id) => {
            if let Some(reason) = reason_to_refuse(context, &mut conn, id).await? {
                while !refuse(&mut conn, &run, id, &reason).await? {}
                return Ok(None);
            }
            Source::Items(Execution::new(id, run.id))
        }
        None => Source::Rules(Planning::new(run.id, &policy, &scope, Until::RunRequested(run.id))),
    };
    if !queue_all(&mut conn, run.id, source, records_sizes(context)).await? {
        return Ok(None);
    }
    start(&mut conn, run.id, &policy, &scope).await
}

/// What a run copies.
enum Source<'p> {
    /// What the rules require.
    Rules(Planning<'p>),
    /// The items of a plan.
    Items(Execution),
}

impl Source<'_> {
    async fn step(&mut self, conn: &mut AsyncPgConnection) -> Result<Option<PlannedStep>> {
        match self {
            Self::Rules(planning) => planning.step(conn).await,
            Self::Items(execution) => execution.step(conn).await,
        }
    }
}

/// Whether the sizes of queued copies are recorded, because they are claimed by size.
pub(super) fn records_sizes(context: &Context) -> bool {
    context.config.tiering.order != TransferOrder::Oldest
}

/// The result of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Step,
    End,
    /// Another worker plans the run, or it is not queued any more.
    Elsewhere,
}

/// Queues the copies of a queued run. Returns false if another worker does, or if the run is not to be started any more.
async fn queue_all(
    conn: &mut AsyncPgConnection,
    run: RunId,
    source: Source<'_>,
    sizes: bool,
) -> Result<bool> {
    let (mut source, mut is_first) = (source, true);
    loop {
        let (back, progress) = conn
            .transaction(async move |conn| {
                let mut source = source;
                // A worker that arrives later leaves the run to the one that is planning it.
                let row =
                    if is_first { runs::lock_queued(conn).await? } else { runs::lock_active(conn).await? };
                if !row.is_some_and(|row| is_planned(&row, run)) {
                    return Ok::<_, Error>((source, Progress::Elsewhere));
                }
                let Some(step) = source.step(conn).await? else { return Ok((source, Progress::End)) };
                count(conn, run, &step, sizes).await?;
                Ok((source, Progress::Step))
            })
            .await?;
        (source, is_first) = (back, false);
        match progress {
            Progress::Step => {}
            Progress::End => return Ok(true),
            Progress::Elsewhere => return Ok(false),
        }
    }
}

/// Whether a run waits to be started.
fn is_planned(row: &Run, run: RunId) -> bool {
    row.id == run && row.status == RunStatus::Queued && !row.is_stopping()
}

/// Adds what a step has queued to the totals of its run.
pub(super) async fn count(
    conn: &mut AsyncPgConnection,
    run: RunId,
    step: &PlannedStep,
    sizes: bool,
) -> Result<()> {
    if sizes {
        replicas::record_sizes(conn, run, &step.objects).await?;
    }
    if step.added.files > 0 {
        runs::add_totals(conn, run, step.added.files, step.added.bytes).await?;
    }
    Ok(())
}

/// Adds the repairs and marks the run as running.
async fn start(
    conn: &mut AsyncPgConnection,
    run: RunId,
    policy: &Policy<'_>,
    scope: &RunScope,
) -> Result<Option<Run>> {
    loop {
        let started = conn
            .transaction(async move |conn| {
                let Some(row) = runs::lock_active(conn).await?.filter(|row| is_planned(row, run)) else {
                    return Ok::<_, Error>(Some(None));
                };
                if with_repairs(conn, run, &policy.locals, scope).await?.copies > 0 {
                    return Ok(None);
                }
                if let Some(plan) = scope.plan_id {
                    record_execution(conn, "plan.execute", &row, plan, None).await?;
                }
                runs::start(conn, run).await?;
                // Workers that lost the race to plan it must not sleep until their next poll.
                listen::notify(conn, listen::RUNS, &run.to_string()).await?;
                Ok(Some(runs::find(conn, run).await?))
            })
            .await?;
        if let Some(run) = started {
            return Ok(run);
        }
    }
}

/// Why a plan is no longer valid; `None` if it is.
async fn reason_to_refuse(
    context: &Context,
    conn: &mut AsyncPgConnection,
    id: PlanId,
) -> Result<Option<String>> {
    conn.transaction(async move |conn| match plan::require_unchanged(context, conn, id).await {
        Ok(()) => Ok(None),
        Err(error @ (Error::PlanChanged { .. } | Error::NotFound(_))) => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    })
    .await
}

/// Ends a run whose plan is no longer valid. Returns false if some of its copies were released and others remain.
async fn refuse(conn: &mut AsyncPgConnection, run: &Run, plan: PlanId, reason: &str) -> Result<bool> {
    conn.transaction(async move |conn| {
        let Some(row) = runs::lock_active(conn).await?.filter(|row| is_planned(row, run.id)) else {
            return Ok::<_, Error>(true);
        };
        if replicas::release_queued(conn, run.id, RELEASED).await? {
            return Ok(false);
        }
        tracing::warn!(target: "nightferry::sync", run = %run.id, %plan, reason, "a plan is no longer valid");
        runs::refuse(conn, run.id, reason).await?;
        record_execution(conn, "plan.refuse", run, plan, Some(reason)).await?;
        if row.files_total > 0 {
            continue_joined(conn, run).await?;
        }
        Ok(true)
    })
    .await
}

/// Requests a run for the copies that joined a run that was refused: their requests were accepted.
async fn continue_joined(conn: &mut AsyncPgConnection, refused: &Run) -> Result<()> {
    let (trigger, requested_by) = (refused.trigger, refused.requested_by);
    let next = NewRun { trigger, requested_by, tick: None, scope: RunScope::default() };
    let next = runs::insert(conn, &next).await?;
    record_request(conn, &next, &Origin::default()).await?;
    tracing::info!(target: "nightferry::sync", run = %next.id, refused = %refused.id, "requested a run for the \
        copies that had joined the refused one");
    Ok(())
}

/// Writes the audit event for executing a plan.
async fn record_execution(
    conn: &mut AsyncPgConnection,
    action: &'static str,
    run: &Run,
    plan: PlanId,
    refused: Option<&str>,
) -> Result<()> {
    let detail = serde_json::json!({ "run_id": run.id, "reason": refused });
    audit::record(conn, &Origin::default(), run.requested_by, action, ("plan", plan), detail).await
}
