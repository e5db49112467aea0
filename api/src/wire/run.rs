//! Runs.

use chrono::{DateTime, Utc};
use nightferry_core::db::enums::{RunStatus, RunTrigger};
use nightferry_core::db::run_failures::RunFailure;
use nightferry_core::db::runs::{self, RunScope};
use nightferry_core::ids::PlanId;
use nightferry_core::tiering::run::RunView;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::plan::scope;

use crate::error_response::{ApiError, Result};

/// What a run is limited to. Empty: everything.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct StartRun {
    /// Only files of this account.
    user_id: Option<Uuid>,
    /// Only files in this folder.
    folder_id: Option<Uuid>,
    /// Only these files.
    file_ids: Option<Vec<Uuid>>,
    /// Exactly what this plan says; nothing else may be given with it. Refused with `CONFLICT` and what changed when the
    /// plan does not hold any more.
    plan_id: Option<Uuid>,
    /// Also what was given up before.
    retry_failed: bool,
}

impl StartRun {
    /// The same for the domain.
    pub(crate) fn scope(self) -> Result<RunScope> {
        let limited = self.user_id.is_some() || self.folder_id.is_some() || self.file_ids.is_some();
        if self.plan_id.is_some() && (limited || self.retry_failed) {
            return Err(ApiError::field("plan_id", "says all that the run does; leave everything else out"));
        }
        let limits = scope(self.user_id, self.folder_id, self.file_ids, self.retry_failed)?;
        Ok(RunScope { plan_id: self.plan_id.map(PlanId), ..limits })
    }
}

/// That a run was asked for, or joined.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunAccepted {
    /// The run.
    pub(crate) run_id: Uuid,
}

/// One crossing.
#[derive(Serialize, ToSchema)]
pub(crate) struct Run {
    /// Id.
    id: Uuid,
    /// Who asked.
    trigger: Trigger,
    /// Which account asked, if any.
    requested_by: Option<Uuid>,
    /// Where it stands.
    status: Status,
    /// Copies planned.
    files_total: i64,
    /// Copies made and verified.
    files_done: i64,
    /// Copies given up.
    files_failed: i64,
    /// Bytes planned.
    bytes_total: i64,
    /// Bytes copied and verified.
    bytes_done: i64,
    /// When a worker planned it.
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    finished_at: Option<DateTime<Utc>>,
    /// When the next queued copy may be tried, while the run is running: after a pause, or once the transfer window
    /// opens.
    next_batch_at: Option<DateTime<Utc>>,
    /// Why the run as a whole stopped early.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl From<RunView> for Run {
    fn from(view: RunView) -> Self {
        let runs::Run { id, trigger, requested_by, status, .. } = view.run;
        Self {
            id: id.0,
            trigger: trigger.into(),
            requested_by: requested_by.map(|user| user.0),
            status: status.into(),
            files_total: view.run.files_total,
            files_done: view.run.files_done,
            files_failed: view.run.files_failed,
            bytes_total: view.run.bytes_total,
            bytes_done: view.run.bytes_done,
            started_at: view.run.started_at,
            finished_at: view.run.finished_at,
            next_batch_at: view.next_batch_at,
            error: view.run.error,
        }
    }
}

/// Which page of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct PageQuery {
    /// 1 to 200; 50 when absent.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    pub(crate) limit: Option<String>,
    /// `next_cursor` of the page before.
    pub(crate) cursor: Option<String>,
}

/// A page of runs, newest first.
#[derive(Serialize, ToSchema)]
pub(crate) struct RunPage {
    /// The runs.
    pub(crate) runs: Vec<Run>,
    /// For the next page; none on the last one.
    pub(crate) next_cursor: Option<String>,
}

/// A page of what a run gave up.
#[derive(Serialize, ToSchema)]
pub(crate) struct FailurePage {
    /// The failures, oldest first.
    pub(crate) failures: Vec<Failure>,
    /// For the next page; none on the last one.
    pub(crate) next_cursor: Option<String>,
}

/// Something that a run gave up.
#[derive(Serialize, ToSchema)]
pub(crate) struct Failure {
    /// The file, if it still exists.
    file_id: Option<Uuid>,
    /// Its name.
    filename: Option<String>,
    /// The object of its version.
    object_id: Uuid,
    /// Where it was to be copied.
    store: String,
    /// How often it was tried.
    attempts: i32,
    /// Why it was given up.
    error: String,
    /// When.
    created_at: DateTime<Utc>,
}

impl From<RunFailure> for Failure {
    fn from(row: RunFailure) -> Self {
        Self {
            file_id: row.file_id.map(|id| id.0),
            filename: row.filename,
            object_id: row.object_id.0,
            store: row.store,
            attempts: row.attempts,
            error: row.error,
            created_at: row.created_at,
        }
    }
}

/// Who asked for a run.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Trigger {
    /// The schedule.
    Schedule,
    /// The admin CLI.
    Cli,
    /// This API.
    Api,
}

impl From<RunTrigger> for Trigger {
    fn from(trigger: RunTrigger) -> Self {
        match trigger {
            RunTrigger::Schedule => Self::Schedule,
            RunTrigger::Cli => Self::Cli,
            RunTrigger::Api => Self::Api,
        }
    }
}

/// Where a run stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// Waits for a worker.
    Queued,
    /// Under way.
    Running,
    /// Everything crossed.
    Succeeded,
    /// Something crossed, something failed.
    Partial,
    /// Nothing crossed although something should have.
    Failed,
    /// Stopped on request.
    Cancelled,
}

impl From<RunStatus> for Status {
    fn from(status: RunStatus) -> Self {
        match status {
            RunStatus::Queued => Self::Queued,
            RunStatus::Running => Self::Running,
            RunStatus::Succeeded => Self::Succeeded,
            RunStatus::Partial => Self::Partial,
            RunStatus::Failed => Self::Failed,
            RunStatus::Cancelled => Self::Cancelled,
        }
    }
}
