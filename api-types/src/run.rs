//! Runs, their failures, and the workers that execute them.

use chrono::{DateTime, Utc};
use nightferry_core::db::enums::{RunStatus, RunTrigger};
use nightferry_core::db::run_failures::RunFailure;
use nightferry_core::db::runs::{self, RunScope};
use nightferry_core::db::workers::Worker;
use nightferry_core::error::{Error, Result};
use nightferry_core::ids::{FileId, FolderId, PlanId, UserId};
use nightferry_core::tiering::forecast::Forecast;
use nightferry_core::tiering::run::RunView;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// The scope of a run. Empty: all files.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StartRun {
    /// Only files of this account.
    pub user_id: Option<Uuid>,
    /// Only files in this folder.
    pub folder_id: Option<Uuid>,
    /// Only these files.
    pub file_ids: Option<Vec<Uuid>>,
    /// Execute exactly this plan; cannot be combined with other fields. Returns `CONFLICT` with the changes if the plan
    /// is no longer valid.
    pub plan_id: Option<Uuid>,
    /// Also retry permanently failed copies.
    pub retry_failed: bool,
}

impl StartRun {
    /// Converts to the domain type.
    pub fn scope(self) -> Result<RunScope> {
        let limited = self.user_id.is_some() || self.folder_id.is_some() || self.file_ids.is_some();
        if self.plan_id.is_some() && (limited || self.retry_failed) {
            return Err(Error::field("plan_id", "cannot be combined with other fields"));
        }
        if self.file_ids.as_ref().is_some_and(Vec::is_empty) {
            return Err(Error::field("file_ids", "must contain at least one file, or be omitted"));
        }
        Ok(RunScope {
            user_id: self.user_id.map(UserId),
            folder_id: self.folder_id.map(FolderId),
            file_ids: self.file_ids.map(|ids| ids.into_iter().map(FileId).collect()),
            retry_failed: self.retry_failed,
            plan_id: self.plan_id.map(PlanId),
        })
    }
}

/// A run was requested or joined.
#[derive(Serialize, ToSchema)]
pub struct RunAccepted {
    /// The run.
    pub run_id: Uuid,
}

/// A sync run.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Run {
    /// Id.
    pub id: Uuid,
    /// The trigger.
    #[schema(value_type = Trigger)]
    pub trigger: RunTrigger,
    /// The account that requested it, if any.
    pub requested_by: Option<Uuid>,
    /// What the run is limited to; empty means all files.
    #[schema(value_type = Object)]
    pub scope: serde_json::Value,
    /// The status.
    #[schema(value_type = Status)]
    pub status: RunStatus,
    /// Number of copies planned.
    pub files_total: i64,
    /// Number of copies made and verified.
    pub files_done: i64,
    /// Copies that failed permanently.
    pub files_failed: i64,
    /// Bytes planned.
    pub bytes_total: i64,
    /// Bytes copied and verified.
    pub bytes_done: i64,
    /// When it was requested.
    pub created_at: DateTime<Utc>,
    /// When a worker planned it.
    pub started_at: Option<DateTime<Utc>>,
    /// When its cancellation was requested.
    pub cancel_requested_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// When the next queued copy may be tried while the run is running: after a backoff, or when the transfer window
    /// opens.
    pub next_batch_at: Option<DateTime<Utc>>,
    /// Why the run as a whole ended early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl From<&RunView> for Run {
    fn from(view: &RunView) -> Self {
        Self { next_batch_at: view.next_batch_at, ..Self::from(&view.run) }
    }
}

impl From<&runs::Run> for Run {
    fn from(run: &runs::Run) -> Self {
        Self {
            id: run.id.0,
            trigger: run.trigger,
            requested_by: run.requested_by.map(|user| user.0),
            scope: run.scope.clone(),
            status: run.status,
            files_total: run.files_total,
            files_done: run.files_done,
            files_failed: run.files_failed,
            bytes_total: run.bytes_total,
            bytes_done: run.bytes_done,
            created_at: run.created_at,
            started_at: run.started_at,
            cancel_requested_at: run.cancel_requested_at,
            finished_at: run.finished_at,
            next_batch_at: None,
            error: run.error.clone(),
        }
    }
}

/// A page of runs, newest first.
#[derive(Serialize, ToSchema)]
pub struct RunPage {
    /// The runs.
    pub runs: Vec<Run>,
    /// The cursor of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// A page of the failures of a run.
#[derive(Serialize, ToSchema)]
pub struct FailurePage {
    /// The failures, oldest first.
    pub failures: Vec<Failure>,
    /// The cursor of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// A failed item of a run.
#[derive(Serialize, ToSchema)]
pub struct Failure {
    /// Id.
    pub id: Uuid,
    /// The file, if it still exists.
    pub file_id: Option<Uuid>,
    /// Name.
    pub filename: Option<String>,
    /// The object of the version.
    pub object_id: Uuid,
    /// The destination store.
    pub store: String,
    /// The number of attempts.
    pub attempts: i32,
    /// The reason of the failure.
    pub error: String,
    /// When the failure happened.
    pub created_at: DateTime<Utc>,
    /// From when on a later run retries the copy; absent if it was retried or no longer exists.
    pub retry_at: Option<DateTime<Utc>>,
}

impl From<&RunFailure> for Failure {
    fn from(row: &RunFailure) -> Self {
        Self {
            id: row.id,
            file_id: row.file_id.map(|id| id.0),
            filename: row.filename.clone(),
            object_id: row.object_id.0,
            store: row.store.clone(),
            attempts: row.attempts,
            error: row.error.clone(),
            created_at: row.created_at,
            retry_at: row.retry_at,
        }
    }
}

/// The trigger of a run.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Trigger {
    /// The schedule.
    Schedule,
    /// The admin CLI.
    Cli,
    /// This API.
    Api,
}

/// The status of a run.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Status {
    /// Waiting for a worker.
    Queued,
    /// In progress.
    Running,
    /// All copies were made.
    Succeeded,
    /// Some copies were made, some failed.
    Partial,
    /// No copy was made, although there was something to copy.
    Failed,
    /// Cancelled on request.
    Cancelled,
}

/// A worker process that is `up` or has fallen silent.
pub fn worker(row: &Worker, up: bool) -> impl Serialize {
    document!(
        id: row.id,
        host: &row.host,
        pid: row.pid,
        version: &row.version,
        state: &row.state,
        up: up,
        started_at: row.started_at,
        heartbeat_at: row.heartbeat_at,
        stores_down: row.waits_for(),
        clock_ahead_seconds: row.clock_ahead_ms / 1000,
    )
}

/// What is left of the active run, and how long it takes.
pub fn backlog(forecast: &Forecast) -> impl Serialize {
    document!(
        files: forecast.files,
        bytes: forecast.bytes,
        needs_seconds: forecast.needs.map(|time| time.as_secs()),
        window_seconds: forecast.window.map(|time| time.as_secs()),
        exceeds_window: forecast.exceeds_window(),
    )
}
