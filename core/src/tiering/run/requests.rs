//! Requests: of a run, of one file, and of a tick of the schedule. Each of them locks the row of the active run before it
//! adds copies, so that a run never ends while copies are being added to it.

use std::time::Duration;

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::enums::{RunStatus, RunTrigger};
use crate::db::policy::Policy;
use crate::db::replicas::{self, Planning, Repairs, Until};
use crate::db::runs::{self, NewRun, Run, RunScope};
use crate::db::{files, schedules, scope};
use crate::error::{Error, Noun, Result};
use crate::ids::{FileId, RunId, UserId};
use crate::object::identity;
use crate::tiering::policy;

use super::{NIGHTLY, plan, start, stop, window};

/// How long a request releases the queue of a run that it replaces. What remains is released by workers.
const RELEASE_TIME: Duration = Duration::from_secs(10);

/// Requests a run. An idle worker starts it within a second. An active run that only waits for the transfer window
/// ends, if the new run need not wait: its remaining copies are left for the new run, or for the next one whose scope
/// includes them.
///
/// # Errors
/// [`Error::SyncAlreadyRunning`], also while the replaced run is still ending; [`Error::NoSuch`] if an element of the scope
/// does not exist; [`Error::PlanChanged`] for a plan that is no longer valid; [`Error::Conflict`] if two stores have one
/// bucket.
pub async fn request(context: &Context, run: NewRun, origin: &Origin) -> Result<Run> {
    identity::require_distinct(context)?;
    let (plan, scope) = (run.scope.plan_id, &run.scope);
    let need_not_wait = window::opens_at(context, run.trigger).is_none();
    let mut conn = context.db.conn().await?;
    let stopped = conn
        .transaction(async move |conn| {
            if let Some(plan) = plan {
                plan::require_unchanged(context, conn, plan).await?;
            }
            scope::require(conn, scope).await?;
            if need_not_wait { stop_waiting_run(context, conn).await } else { Ok(None) }
        })
        .await?;
    if let Some(stopped) = stopped {
        stop::release(&mut conn, stopped, RELEASE_TIME).await?;
        let Some(ended) = stop::end(&mut conn, stopped).await? else {
            return Err(Error::SyncAlreadyRunning(stopped));
        };
        tracing::info!(target: "nightferry::sync", run = %ended.id, "ended a run that was waiting for \
            the transfer window, because another run was requested");
    }
    conn.transaction(async move |conn| {
        let run = runs::insert(conn, &run).await?;
        record_request(conn, &run, origin).await?;
        Ok(run)
    })
    .await
}

/// Stops the active run if it waits for the transfer window, and returns it. Nothing more of it is claimed; its queue is
/// still to be released.
///
/// # Errors
/// [`Error::SyncAlreadyRunning`] if some of its copies are still in flight; then nothing was changed.
async fn stop_waiting_run(context: &Context, conn: &mut AsyncPgConnection) -> Result<Option<RunId>> {
    let Some(active) = runs::lock_active(conn).await? else { return Ok(None) };
    if active.status != RunStatus::Running || window::opens_at(context, active.trigger).is_none() {
        return Ok(None);
    }
    if replicas::any_in_flight(conn, active.id).await? {
        return Err(Error::SyncAlreadyRunning(active.id));
    }
    runs::request_cancel(conn, active.id).await?;
    let reason = "it was waiting for the transfer window when another run was requested";
    runs::set_error(conn, active.id, reason).await?;
    Ok(Some(active.id))
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
/// [`Error::SyncAlreadyRunning`] while the active run is stopping; [`Error::Conflict`] if two stores have one bucket.
pub async fn request_file(
    context: &Context,
    file: FileId,
    owner: Option<UserId>,
    run: NewRun,
    origin: &Origin,
) -> Result<RunId> {
    identity::require_distinct(context)?;
    let sizes = start::records_sizes(context);
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
                join(conn, &active, &policy, &scope, sizes).await?;
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

/// Adds the named files in `scope` to an active run.
async fn join(
    conn: &mut AsyncPgConnection,
    active: &Run,
    policy: &Policy<'_>,
    scope: &RunScope,
    sizes: bool,
) -> Result<()> {
    let mut planning = Planning::new(active.id, policy, scope, Until::Now);
    while let Some(step) = planning.step(conn).await? {
        start::count(conn, active.id, &step, sizes).await?;
    }
    crate::db::listen::notify(conn, crate::db::listen::RUNS, &active.id.to_string()).await
}

/// Adds all files to an active run, in steps, each of which locks the row of the run: commits of copies, which count in
/// that row, wait for one step at most. Returns false if the run ends meanwhile.
async fn join_all(context: &Context, conn: &mut AsyncPgConnection, run: RunId) -> Result<bool> {
    let (policy, scope) = (policy::in_force(context, conn).await?, RunScope::default());
    let sizes = start::records_sizes(context);
    let mut planning = Planning::new(run, &policy, &scope, Until::Now);
    let accepts = |row: &Run| row.id == run && !row.is_stopping();
    loop {
        let (back, goes_on) = conn
            .transaction(async move |conn| {
                let mut planning = planning;
                if !runs::lock_active(conn).await?.is_some_and(|row| accepts(&row)) {
                    return Ok::<_, Error>((planning, None));
                }
                let Some(step) = planning.step(conn).await? else { return Ok((planning, Some(false))) };
                start::count(conn, run, &step, sizes).await?;
                Ok((planning, Some(true)))
            })
            .await?;
        planning = back;
        match goes_on {
            Some(true) => {}
            Some(false) => break,
            None => return Ok(false),
        }
    }
    let (policy, scope) = (&policy, &scope);
    loop {
        let joined = conn
            .transaction(async move |conn| {
                if !runs::lock_active(conn).await?.is_some_and(|row| accepts(&row)) {
                    return Ok::<_, Error>(Some(false));
                }
                if with_repairs(conn, run, &policy.locals, scope).await?.copies > 0 {
                    return Ok(None);
                }
                crate::db::listen::notify(conn, crate::db::listen::RUNS, &run.to_string()).await?;
                Ok(Some(true))
            })
            .await?;
        if let Some(joined) = joined {
            return Ok(joined);
        }
    }
}

/// Adds some repairs to a run of all files. Returns the additions: none once all are added.
pub(super) async fn with_repairs(
    conn: &mut AsyncPgConnection,
    run: RunId,
    locals: &[&str],
    scope: &RunScope,
) -> Result<Repairs> {
    if !scope.is_everything() {
        return Ok(Repairs::default());
    }
    let repairs = replicas::queue_repairs(conn, locals, Some(run), scope.retry_failed).await?;
    if repairs.joined > 0 {
        runs::add_totals(conn, run, repairs.joined, repairs.joined_bytes).await?;
    }
    Ok(repairs)
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
    let shift = context.clock.shift();
    let mut conn = context.db.conn().await?;
    for _ in 0..MAX_LOOKS {
        // The files join before the tick is taken: a process that dies in between leaves the tick to another one.
        let joined = match runs::active(&mut conn).await? {
            Some(active) if active.is_stopping() => return Ok(Tick::NotYet),
            Some(active) => {
                if !join_all(context, &mut conn, active.id).await? {
                    continue;
                }
                Some(active.id)
            }
            None => None,
        };
        if let Some(tick) = conn.transaction(async move |conn| take(conn, tick, joined, shift).await).await? {
            return Ok(tick);
        }
    }
    Ok(Tick::NotYet)
}

/// Takes a tick whose files have joined the active run `joined`, or for which a run is created. `None` if another run is
/// active by now.
async fn take(
    conn: &mut AsyncPgConnection,
    tick: chrono::DateTime<chrono::Utc>,
    joined: Option<RunId>,
    shift: chrono::TimeDelta,
) -> Result<Option<Tick>> {
    let active = runs::lock_active(conn).await?;
    if active.as_ref().is_some_and(Run::is_stopping) {
        return Ok(Some(Tick::NotYet));
    }
    if active.map(|run| run.id) != joined {
        return Ok(None);
    }
    if !schedules::take_tick(conn, NIGHTLY, tick, shift).await? {
        return Ok(Some(Tick::Taken));
    }
    if let Some(run) = joined {
        tracing::info!(target: "nightferry::sync", %run, %tick, "a run is active, which covers this tick");
        return Ok(Some(Tick::Taken));
    }
    let run = NewRun {
        trigger: RunTrigger::Schedule,
        requested_by: None,
        tick: Some((NIGHTLY.to_owned(), tick)),
        scope: RunScope::default(),
    };
    let run = runs::insert(conn, &run).await?;
    record_request(conn, &run, &Origin::default()).await?;
    Ok(Some(Tick::Run(Box::new(run))))
}
