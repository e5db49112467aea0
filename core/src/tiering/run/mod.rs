//! Runs: requested, planned, listed, cancelled, ended. One at a time, which a database constraint enforces.

mod blocked;
pub mod claim;
pub mod commit;
pub mod forecast;
pub mod plan;
mod requests;
mod start;
mod stop;
pub mod window;

use diesel_async::AsyncPgConnection;

use crate::context::Context;
use crate::db::enums::RunStatus;
use crate::db::replicas;
use crate::db::run_failures::{self, RunFailure};
use crate::db::runs::{self, Run};
use crate::db::{schedules, split_page};
use crate::error::{Error, Noun, Result};
use crate::ids::RunId;

use super::policy;
use super::schedule::Ticks;

pub use blocked::stop_if_blocked;
pub use requests::{Tick, request, request_file, request_tick};
pub use start::start_queued;
pub use stop::{cancel, settle, stop};

/// Name of the schedule of the nightly run.
pub const NIGHTLY: &str = "sync";

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

/// Whether nothing new of a run may start: it was cancelled, cannot continue, or has ended.
pub async fn is_stopped(context: &Context, id: RunId) -> Result<bool> {
    let run = runs::find(&mut *context.db.conn().await?, id).await?;
    Ok(run.is_none_or(|run| run.status != RunStatus::Running || run.is_stopping()))
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
