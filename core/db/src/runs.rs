//! The `runs` table: one row per sync run. A database constraint allows one active run at a time.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};

use super::enums::{RunStatus, RunTrigger};
use super::listen;
use super::schema::runs;
use crate::error::{Error, Result};
use crate::ids::{FileId, FolderId, PlanId, RunId, UserId};

/// The scope of a run. Empty: all files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunScope {
    /// Only files of this account.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Only files in this folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub folder_id: Option<FolderId>,
    /// Only these files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_ids: Option<Vec<FileId>>,
    /// Also retry permanently failed copies.
    #[serde(default)]
    pub retry_failed: bool,
    /// Exactly the items of this plan, instead of the rest of the scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<PlanId>,
}

impl RunScope {
    /// Whether the scope is empty, meaning all files.
    pub const fn is_everything(&self) -> bool {
        self.user_id.is_none()
            && self.folder_id.is_none()
            && self.file_ids.is_none()
            && self.plan_id.is_none()
    }
}

/// A sync run.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = runs, check_for_backend(diesel::pg::Pg))]
pub struct Run {
    /// Id.
    pub id: RunId,
    /// The trigger.
    pub trigger: RunTrigger,
    /// The account that requested it, if any.
    pub requested_by: Option<UserId>,
    /// The tick it was created for.
    pub tick: Option<DateTime<Utc>>,
    /// Scope.
    pub scope: serde_json::Value,
    /// The status.
    pub status: RunStatus,
    /// Copies planned.
    pub files_total: i64,
    /// Copies made and verified.
    pub files_done: i64,
    /// Copies that failed permanently.
    pub files_failed: i64,
    /// Bytes planned.
    pub bytes_total: i64,
    /// Bytes copied and verified.
    pub bytes_done: i64,
    /// Why the run as a whole ended early.
    pub error: Option<String>,
    /// When it was requested.
    pub created_at: DateTime<Utc>,
    /// When a worker planned it.
    pub started_at: Option<DateTime<Utc>>,
    /// When cancellation was requested.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
}

impl Run {
    /// The scope as a type.
    ///
    /// # Errors
    /// [`Error::Internal`] if the column contains something unknown to this version.
    pub fn scope(&self) -> Result<RunScope> {
        serde_json::from_value(self.scope.clone())
            .map_err(|error| Error::Internal(format!("run {} has an invalid scope: {error}", self.id)))
    }

    /// Whether it was cancelled or cannot continue, and ends when none of its copies is in flight.
    pub fn is_stopping(&self) -> bool {
        self.cancel_requested_at.is_some() || self.error.is_some()
    }
}

/// A new run.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// The trigger.
    pub trigger: RunTrigger,
    /// The requesting account.
    pub requested_by: Option<UserId>,
    /// Schedule and tick.
    pub tick: Option<(String, DateTime<Utc>)>,
    /// Scope.
    pub scope: RunScope,
}

/// How often a run is inserted again after the run that was in its way has ended.
const MAX_INSERTS: usize = 5;

/// Inserts a queued run and wakes the workers.
///
/// # Errors
/// [`Error::SyncAlreadyRunning`] with the active run.
pub async fn insert(conn: &mut AsyncPgConnection, run: &NewRun) -> Result<Run> {
    for _ in 0..MAX_INSERTS {
        if let Some(run) = insert_unless_active(conn, run).await? {
            return Ok(run);
        }
        if let Some(active) = active(conn).await? {
            return Err(Error::SyncAlreadyRunning(active.id));
        }
        // It has ended since: there is room for this one now.
    }
    Err(Error::Conflict("Other runs start and end all the time. Try again.".to_owned()))
}

/// Like [`insert`]; `None` if another run is active. Waits for a run that is ending.
pub async fn insert_unless_active(conn: &mut AsyncPgConnection, run: &NewRun) -> Result<Option<Run>> {
    let scope = serde_json::to_value(&run.scope)
        .map_err(|error| Error::Internal(format!("cannot encode the scope of a run: {error}")))?;
    let (schedule, tick) = match &run.tick {
        Some((schedule, tick)) => (Some(schedule.as_str()), Some(*tick)),
        None => (None, None),
    };
    let inserted = diesel::insert_into(runs::table)
        .values((
            runs::id.eq(RunId::new()),
            runs::trigger.eq(run.trigger),
            runs::requested_by.eq(run.requested_by),
            runs::schedule.eq(schedule),
            runs::tick.eq(tick),
            runs::scope.eq(scope),
            runs::status.eq(RunStatus::Queued),
        ))
        .on_conflict_do_nothing()
        .returning(Run::as_returning())
        .get_result(conn)
        .await
        .optional()?;
    if let Some(run) = &inserted {
        listen::notify(conn, listen::RUNS, &run.id.to_string()).await?;
    }
    Ok(inserted)
}

/// The run that is queued or running, if any.
pub async fn active(conn: &mut AsyncPgConnection) -> Result<Option<Run>> {
    Ok(runs::table
        .filter(runs::status.eq_any([RunStatus::Queued, RunStatus::Running]))
        .select(Run::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// The active run, with its row locked until the end of the transaction.
pub async fn lock_active(conn: &mut AsyncPgConnection) -> Result<Option<Run>> {
    Ok(runs::table
        .filter(runs::status.eq_any([RunStatus::Queued, RunStatus::Running]))
        .select(Run::as_select())
        .for_update()
        .first(conn)
        .await
        .optional()?)
}

/// Locks the row of an active run until the end of the transaction. Returns false if it has ended, or if it is locked
/// now: then copies are being added to it or counted.
async fn lock_now(conn: &mut AsyncPgConnection, id: RunId) -> Result<bool> {
    let locked: Option<RunId> = runs::table
        .find(id)
        .filter(runs::status.eq_any([RunStatus::Queued, RunStatus::Running]))
        .select(runs::id)
        .for_update()
        .skip_locked()
        .first(conn)
        .await
        .optional()?;
    Ok(locked.is_some())
}

/// The queued run, locked; `None` if another worker is planning it now.
pub async fn lock_queued(conn: &mut AsyncPgConnection) -> Result<Option<Run>> {
    Ok(runs::table
        .filter(runs::status.eq(RunStatus::Queued))
        .select(Run::as_select())
        .for_update()
        .skip_locked()
        .first(conn)
        .await
        .optional()?)
}

/// Finds a run.
pub async fn find(conn: &mut AsyncPgConnection, id: RunId) -> Result<Option<Run>> {
    Ok(runs::table.find(id).select(Run::as_select()).first(conn).await.optional()?)
}

/// Runs, newest first, before `before`, at most `limit`.
pub async fn page(conn: &mut AsyncPgConnection, before: Option<RunId>, limit: i64) -> Result<Vec<Run>> {
    let mut query = runs::table.select(Run::as_select()).order(runs::id.desc()).limit(limit).into_boxed();
    if let Some(before) = before {
        query = query.filter(runs::id.lt(before));
    }
    Ok(query.load(conn).await?)
}

/// Marks a planned run as running. Its totals were counted while it was planned.
pub async fn start(conn: &mut AsyncPgConnection, id: RunId) -> Result<bool> {
    let changed = diesel::update(runs::table.find(id).filter(runs::status.eq(RunStatus::Queued)))
        .set((runs::status.eq(RunStatus::Running), runs::started_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    Ok(changed == 1)
}

/// Adds newly planned copies to the totals of an active run. Part of the transaction that queues them.
pub async fn add_totals(conn: &mut AsyncPgConnection, id: RunId, files: i64, bytes: i64) -> Result<()> {
    diesel::update(runs::table.find(id))
        .set((
            runs::files_total.eq(runs::files_total + files),
            runs::bytes_total.eq(runs::bytes_total + bytes),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Counts the results of a batch. Part of the transaction of the batch.
pub async fn count(
    conn: &mut AsyncPgConnection,
    id: RunId,
    done: i64,
    failed: i64,
    bytes: i64,
) -> Result<()> {
    diesel::update(runs::table.find(id))
        .set((
            runs::files_done.eq(runs::files_done + done),
            runs::files_failed.eq(runs::files_failed + failed),
            runs::bytes_done.eq(runs::bytes_done + bytes),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Requests the cancellation of an active run. Returns the run, or `None` if it is not active.
pub async fn request_cancel(conn: &mut AsyncPgConnection, id: RunId) -> Result<Option<Run>> {
    Ok(diesel::update(
        runs::table.find(id).filter(runs::status.eq_any([RunStatus::Queued, RunStatus::Running])),
    )
    .set(runs::cancel_requested_at.eq(diesel::dsl::now))
    .returning(Run::as_returning())
    .get_result(conn)
    .await
    .optional()?)
}

/// Ends a queued run that cannot be executed, with the reason.
pub async fn refuse(conn: &mut AsyncPgConnection, id: RunId, error: &str) -> Result<()> {
    diesel::update(runs::table.find(id).filter(runs::status.eq(RunStatus::Queued)))
        .set((
            runs::status.eq(RunStatus::Failed),
            runs::error.eq(error),
            runs::started_at.eq(diesel::dsl::now),
            runs::finished_at.eq(diesel::dsl::now),
        ))
        .execute(conn)
        .await?;
    listen::notify(conn, listen::RUNS, &id.to_string()).await
}

/// Records why a running run as a whole cannot continue. The first reason is kept; an ended run keeps its outcome.
pub async fn set_error(conn: &mut AsyncPgConnection, id: RunId, error: &str) -> Result<()> {
    diesel::update(
        runs::table.find(id).filter(runs::status.eq(RunStatus::Running)).filter(runs::error.is_null()),
    )
    .set(runs::error.eq(error))
    .execute(conn)
    .await?;
    Ok(())
}

/// Ends the run if none of its copies is queued or in flight. Returns the ended run.
///
/// Part of a transaction: it locks the row of the run first, in a statement of its own. A request that joins the run
/// holds the same lock while it adds copies. The statement that looks for copies therefore starts after the request has
/// committed and sees its copies; without the lock, it would wait for the request with the snapshot of its own start, in
/// which they do not exist yet. A run that is locked now does not end now: the next call tries again.
pub async fn settle(conn: &mut AsyncPgConnection, id: RunId) -> Result<Option<Run>> {
    if !lock_now(conn, id).await? {
        return Ok(None);
    }
    let ended = diesel::sql_query(
        "UPDATE runs SET finished_at = now(), status = CASE \
            WHEN cancel_requested_at IS NOT NULL THEN 'cancelled' \
            WHEN files_failed = 0 AND error IS NULL THEN 'succeeded' \
            WHEN files_done > 0 THEN 'partial' \
            ELSE 'failed' END::run_status \
         WHERE id = $1 AND (status = 'running' OR (status = 'queued' AND cancel_requested_at IS NOT NULL)) \
           AND NOT EXISTS (SELECT 1 FROM replicas WHERE run_id = $1 AND state = 'queued') \
           AND NOT EXISTS (SELECT 1 FROM replicas WHERE run_id = $1 AND state = 'copying')",
    )
    .bind::<sql_types::Uuid, _>(id)
    .execute(conn)
    .await?;
    if ended == 0 {
        return Ok(None);
    }
    listen::notify(conn, listen::RUNS, &id.to_string()).await?;
    find(conn, id).await
}

/// The most recent finished runs that copied something, newest first.
pub async fn measured(conn: &mut AsyncPgConnection, limit: i64) -> Result<Vec<Run>> {
    Ok(runs::table
        .filter(runs::files_done.gt(0))
        .filter(runs::finished_at.is_not_null())
        .filter(runs::status.eq_any([RunStatus::Succeeded, RunStatus::Partial]))
        .order(runs::finished_at.desc())
        .limit(limit)
        .select(Run::as_select())
        .load(conn)
        .await?)
}

/// Number of runs by status, for the metrics.
pub async fn count_by_status(conn: &mut AsyncPgConnection) -> Result<Vec<(RunStatus, i64)>> {
    Ok(runs::table
        .group_by(runs::status)
        .select((runs::status, diesel::dsl::count_star()))
        .load(conn)
        .await?)
}
