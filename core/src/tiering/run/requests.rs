//! Requests: of a run, of one file, and of a tick of the schedule. Each of them locks the row of the active run before it
//! adds copies, so that a run never ends while copies are being added to it.

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::config::TransferOrder;
use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::enums::{RunStatus, RunTrigger};
use crate::db::policy::Policy;
use crate::db::replicas::{self, Amount};
use crate::db::runs::{self, NewRun, Run, RunScope};
use crate::db::{files, schedules, scope};
use crate::error::{Error, Noun, Result};
use crate::ids::{FileId, RunId, UserId};
use crate::tiering::policy;

use super::{NIGHTLY, plan, window};

/// Requests a run. An idle worker starts it within a second. An active run that only waits for the transfer window
/// ends, if the new run need not wait: its remaining copies are left for the new run, or for the next one whose scope
/// includes them.
///
/// # Errors
/// [`Error::SyncAlreadyRunning`]; [`Error::NoSuch`] if an element of the scope does not exist; [`Error::PlanChanged`]
/// for a plan that is no longer valid.
pub async fn request(context: &Context, run: NewRun, origin: &Origin) -> Result<Run> {
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        if let Some(plan) = run.scope.plan_id {
            plan::require_unchanged(context, conn, plan).await?;
        }
        scope::require(conn, &run.scope).await?;
        if window::opens_at(context, run.trigger).is_none() {
            end_waiting_run(context, conn).await?;
        }
        let run = runs::insert(conn, &run).await?;
        record_request(conn, &run, origin).await?;
        Ok(run)
    })
    .await
}

/// Ends the active run if it waits for the transfer window.
///
/// # Errors
/// [`Error::SyncAlreadyRunning`] if some of its copies are still in flight.
async fn end_waiting_run(context: &Context, conn: &mut AsyncPgConnection) -> Result<()> {
    let Some(active) = runs::lock_active(conn).await? else { return Ok(()) };
    if active.status != RunStatus::Running || window::opens_at(context, active.trigger).is_none() {
        return Ok(());
    }
    runs::request_cancel(conn, active.id).await?;
    runs::set_error(
        conn,
        active.id,
        "it was waiting for the transfer window when another run was \
        requested",
    )
    .await?;
    replicas::unassign(conn, active.id).await?;
    match runs::settle(conn, active.id).await? {
        Some(ended) => {
            tracing::info!(target: "nightferry::sync", run = %ended.id, "ended a run that was waiting for \
                the transfer window, because another run was requested");
            Ok(())
        }
        None => Err(Error::SyncAlreadyRunning(active.id)),
    }
}

pub(super) async fn record_request(conn: &mut AsyncPgConnection, run: &Run, origin: &Origin) -> Result<()> {
    let detail = serde_json::json!({ "trigger": run.trigger, "scope": run.scope });
    audit::record(conn, origin, run.requested_by, "run.request", ("run", run.id), detail).await
}

/// How often a request looks again for the active run, after one started or ended meanwhile.
const MAX_LOOKS: usize = 5;

/// Queues one file now: in the active run if there is one, otherwise in a separate run. A run that is ending is waited
/// for: the request either joins it before it ends, or starts a new one.
///
/// # Errors
/// [`Error::NotFound`] for files of other users, unless `owner` is `None` (an administrator);
/// [`Error::SyncAlreadyRunning`] while the active run is stopping.
pub async fn request_file(
    context: &Context,
    file: FileId,
    owner: Option<UserId>,
    run: NewRun,
    origin: &Origin,
) -> Result<RunId> {
    let order = context.config.tiering.order;
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        let policy = policy::in_force(context, conn).await?;
        let (row, _, _) = files::find(conn, file, owner).await?.ok_or(Error::NotFound(Noun::File))?;
        if row.deleted_at.is_some() {
            return Err(Error::NotFound(Noun::File));
        }
        let scope = RunScope { file_ids: Some(vec![file]), ..RunScope::default() };
        let new = NewRun { scope: scope.clone(), ..run };
        for _ in 0..MAX_LOOKS {
            if let Some(active) = runs::lock_active(conn).await? {
                if active.is_stopping() {
                    return Err(Error::SyncAlreadyRunning(active.id));
                }
                join(conn, &active, &policy, &scope, order).await?;
                return Ok(active.id);
            }
            if let Some(run) = runs::insert_unless_active(conn, &new).await? {
                record_request(conn, &run, origin).await?;
                return Ok(run.id);
            }
            // Another run started in between: this request joins it.
        }
        Err(Error::Conflict("Other runs start and end all the time. Try again.".to_owned()))
    })
    .await
}

/// Adds the files in `scope` to an active run. The totals of a run that is still queued are counted when it starts.
async fn join(
    conn: &mut AsyncPgConnection,
    active: &Run,
    policy: &Policy<'_>,
    scope: &RunScope,
    order: TransferOrder,
) -> Result<()> {
    let mut added = replicas::plan_until(conn, active.id, policy, scope, replicas::Until::Now).await?;
    added.add(with_repairs(conn, active.id, &policy.locals, scope).await?);
    if order != TransferOrder::Oldest {
        replicas::record_sizes(conn, active.id).await?;
    }
    if active.status == RunStatus::Running {
        runs::add_totals(conn, active.id, added.files, added.bytes).await?;
    }
    crate::db::listen::notify(conn, crate::db::listen::RUNS, &active.id.to_string()).await
}

/// Adds queued repairs to a run of all files. Returns the additions.
pub(super) async fn with_repairs(
    conn: &mut AsyncPgConnection,
    run: RunId,
    locals: &[&str],
    scope: &RunScope,
) -> Result<Amount> {
    if !scope.is_everything() {
        return Ok(Amount::default());
    }
    let queued = replicas::queue_repairs(conn, locals, Some(run), scope.retry_failed).await?;
    Ok(Amount { files: queued.joined, bytes: queued.joined_bytes })
}

/// The result of a tick of the nightly schedule.
#[derive(Debug, Clone)]
pub enum Tick {
    /// A run was created.
    Run(Box<Run>),
    /// The tick was taken by another worker, or is covered by the active run.
    Taken,
    /// The active run is stopping and accepts nothing more: retry when it has ended.
    NotYet,
}

/// Takes a tick of the nightly schedule and requests its run: exactly one worker succeeds. If a run is already active,
/// it covers the tick and no second one is created.
///
/// # Errors
/// Any database error; the tick is then not taken.
pub async fn request_tick(context: &Context, tick: chrono::DateTime<chrono::Utc>) -> Result<Tick> {
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        let active = runs::lock_active(conn).await?;
        if active.as_ref().is_some_and(Run::is_stopping) {
            return Ok(Tick::NotYet);
        }
        if !schedules::take_tick(conn, NIGHTLY, tick, context.clock.shift()).await? {
            return Ok(Tick::Taken);
        }
        if let Some(active) = active {
            tracing::info!(target: "nightferry::sync", run = %active.id, %tick, "a run is active, which \
                covers this tick");
            let order = context.config.tiering.order;
            let policy = policy::in_force(context, conn).await?;
            join(conn, &active, &policy, &RunScope::default(), order).await?;
            return Ok(Tick::Taken);
        }
        let run = NewRun {
            trigger: RunTrigger::Schedule,
            requested_by: None,
            tick: Some((NIGHTLY.to_owned(), tick)),
            scope: RunScope::default(),
        };
        let run = runs::insert(conn, &run).await?;
        record_request(conn, &run, &Origin::default()).await?;
        Ok(Tick::Run(Box::new(run)))
    })
    .await
}
