//! Runs: requested, planned, listed, cancelled, ended. One at a time, which a database constraint enforces.

mod blocked;
pub mod claim;
pub mod commit;
pub mod forecast;
pub mod plan;
mod requests;
pub mod window;

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::config::TransferOrder;
use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::enums::RunStatus;
use crate::db::replicas::{self, Amount};
use crate::db::run_failures::{self, RunFailure};
use crate::db::runs::{self, NewRun, Run, RunScope};
use crate::db::{plans, schedules, split_page};
use crate::error::{Error, Noun, Result};
use crate::ids::{PlanId, RunId, UserId};

use super::policy;
use super::schedule::Ticks;
use requests::{record_request, with_repairs};

pub use blocked::stop_if_blocked;
pub use requests::{Tick, request, request_file, request_tick};

/// Name of the schedule of the nightly run.
pub const NIGHTLY: &str = "sync";

/// Plans the queued run, if no other worker is planning it, and starts it.
///
/// # Errors
/// Any database error; the run stays queued.
pub async fn start_queued(context: &Context) -> Result<Option<Run>> {
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        let policy = policy::in_force(context, conn).await?;
        let Some(run) = runs::lock_queued(conn).await? else { return Ok(None) };
        let scope = run.scope()?;
        if let Some(plan) = scope.plan_id {
            if !execute(context, conn, &run, plan).await? {
                return Ok(None);
            }
        } else {
            let until = replicas::Until::RunRequested(run.id);
            replicas::plan_until(conn, run.id, &policy, &scope, until).await?;
        }
        with_repairs(conn, run.id, &policy.locals, &scope).await?;
        let Amount { files, bytes } = replicas::queued_in(conn, run.id).await?;
        if context.config.tiering.order != TransferOrder::Oldest {
            replicas::record_sizes(conn, run.id).await?;
        }
        runs::start(conn, run.id, files, bytes).await?;
        // Workers that lost the race to plan it must not sleep until their next poll.
        crate::db::listen::notify(conn, crate::db::listen::RUNS, &run.id.to_string()).await?;
        runs::find(conn, run.id).await
    })
    .await
}

/// Queues the items of a plan, or ends the run if the plan is no longer valid.
async fn execute(context: &Context, conn: &mut AsyncPgConnection, run: &Run, id: PlanId) -> Result<bool> {
    let refused = match plan::require_unchanged(context, conn, id).await {
        Ok(()) => {
            plans::execute(conn, id, run.id).await?;
            record_execution(conn, "plan.execute", run, id, None).await?;
            return Ok(true);
        }
        Err(error @ (Error::PlanChanged { .. } | Error::NotFound(_))) => error.to_string(),
        Err(error) => return Err(error),
    };
    tracing::warn!(target: "nightferry::sync", run = %run.id, plan = %id, reason = refused, "a plan is no \
        longer valid");
    let joined = replicas::unassign(conn, run.id).await?;
    runs::refuse(conn, run.id, &refused).await?;
    record_execution(conn, "plan.refuse", run, id, Some(&refused)).await?;
    if joined > 0 {
        continue_joined(conn, run).await?;
    }
    Ok(false)
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

/// The run that is queued or running, if any.
pub async fn active(context: &Context) -> Result<Option<Run>> {
    runs::active(&mut *context.db.conn().await?).await
}

/// A run and, while it is running, when its next batch is due.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn find(context: &Context, id: RunId) -> Result<RunView> {
    let mut conn = context.db.conn().await?;
    let run = runs::find(&mut conn, id).await?.ok_or(Error::NotFound(Noun::Run))?;
    view(context, &mut conn, run).await
}

/// A run and when its next batch is due.
#[derive(Debug, Clone)]
pub struct RunView {
    /// The row.
    pub run: Run,
    /// When the next queued copy is due, while the run is running.
    pub next_batch_at: Option<chrono::DateTime<chrono::Utc>>,
    /// When the transfer window opens, if the run has to wait for it.
    pub window_opens_at: Option<chrono::DateTime<chrono::Utc>>,
}

impl RunView {
    /// A run without due copies.
    pub fn of_row(run: Run) -> Self {
        Self { run, next_batch_at: None, window_opens_at: None }
    }
}

async fn view(context: &Context, conn: &mut AsyncPgConnection, run: Run) -> Result<RunView> {
    if run.status != RunStatus::Running {
        return Ok(RunView::of_row(run));
    }
    let next_due = replicas::next_due(conn, run.id).await?;
    let window_opens_at = next_due.and_then(|_| window::opens_at(context, run.trigger));
    // `None` is less than any time.
    Ok(RunView { run, next_batch_at: next_due.max(window_opens_at), window_opens_at })
}

/// Runs, newest first, before `before`, at most `limit`; and whether there are more.
pub async fn page(context: &Context, before: Option<RunId>, limit: i64) -> Result<(Vec<RunView>, bool)> {
    let mut conn = context.db.conn().await?;
    let (rows, more) = split_page(runs::page(&mut conn, before, limit.saturating_add(1)).await?, limit);
    let mut views = Vec::with_capacity(rows.len());
    for run in rows {
        // At most one run is active, so this queries at most once.
        views.push(view(context, &mut conn, run).await?);
    }
    Ok((views, more))
}

/// The failures of a run, oldest first, after `after`, at most `limit`; and whether there are more.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn failures(
    context: &Context,
    id: RunId,
    after: Option<uuid::Uuid>,
    limit: i64,
) -> Result<(Vec<RunFailure>, bool)> {
    let mut conn = context.db.conn().await?;
    runs::find(&mut conn, id).await?.ok_or(Error::NotFound(Noun::Run))?;
    let patience = policy::patience(&context.config);
    let rows = run_failures::page(&mut conn, id, after, limit.saturating_add(1), patience).await?;
    Ok(split_page(rows, limit))
}

/// Requests the cancellation of an active run: nothing new is started, transfers in flight finish, and everything else
/// waits for the next run. Returns the new state of the run.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if it has already ended.
pub async fn cancel(context: &Context, id: RunId, actor: Option<UserId>, origin: &Origin) -> Result<Run> {
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        let Some(run) = runs::request_cancel(conn, id).await? else {
            let run = runs::find(conn, id).await?.ok_or(Error::NotFound(Noun::Run))?;
            return Err(Error::Conflict(format!("The run has already ended: it {}.", run.status)));
        };
        replicas::unassign(conn, id).await?;
        crate::db::listen::notify(conn, crate::db::listen::RUNS, &id.to_string()).await?;
        audit::record(conn, origin, actor, "run.cancel", ("run", id), serde_json::json!({})).await?;
        Ok(runs::settle(conn, id).await?.unwrap_or(run))
    })
    .await
}

/// Stops a run that cannot continue, for example because the destination rejects the credentials. No attempts are lost;
/// queued copies wait for the next run.
pub async fn stop(context: &Context, id: RunId, reason: &str) -> Result<()> {
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        runs::set_error(conn, id, reason).await?;
        replicas::unassign(conn, id).await?;
        Ok(())
    })
    .await
}

/// Whether nothing new of a run may start: it was cancelled, cannot continue, or has ended.
pub async fn is_stopped(context: &Context, id: RunId) -> Result<bool> {
    let run = runs::find(&mut *context.db.conn().await?, id).await?;
    Ok(run.is_none_or(|run| run.status != RunStatus::Running || run.is_stopping()))
}

/// Ends a run of which nothing is queued or in flight. Returns it if this call ended it.
pub async fn settle(context: &Context, id: RunId) -> Result<Option<Run>> {
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| runs::settle(conn, id).await).await
}

/// Takes the tick of the nightly schedule that is due, if any. Returns whether this process created a run for it.
///
/// # Errors
/// Any database error; the tick is then not taken.
pub async fn take_due_tick(context: &Context, ticks: &mut Ticks) -> Result<bool> {
    let tiering = &context.config.tiering;
    let Some(due) = ticks.due(context, NIGHTLY, &tiering.schedule).await? else { return Ok(false) };
    let mut made = false;
    if due.was_missed && !tiering.catch_up {
        tracing::info!(target: "nightferry::sync", tick = %due.tick, "a tick was missed while no worker \
            was running, and is skipped");
        let shift = context.clock.shift();
        schedules::take_tick(&mut *context.db.conn().await?, NIGHTLY, due.tick, shift).await?;
    } else {
        match request_tick(context, due.tick).await? {
            Tick::Run(run) => {
                tracing::info!(target: "nightferry::sync", run = %run.id, tick = %due.tick, caught_up = due.was_missed, "a \
                    tick started a run");
                made = true;
            }
            Tick::Taken => {}
            // Still due: the next call checks again.
            Tick::NotYet => return Ok(false),
        }
    }
    ticks.handled(context, &tiering.schedule)?;
    Ok(made)
}
