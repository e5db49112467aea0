//! Runs, what they gave up, and who carries them.

use chrono::{DateTime, Utc};
use nightferry_core::db::run_failures::RunFailure;
use nightferry_core::db::runs::Run;
use nightferry_core::db::unsigned;
use nightferry_core::db::workers::Worker;
use nightferry_core::tiering::forecast::Forecast;
use nightferry_core::tiering::run::RunView;
use serde::Serialize;

/// A run, as the API shows it, with what it is limited to.
#[derive(Debug, Serialize)]
pub(crate) struct RunDocument {
    id: String,
    trigger: &'static str,
    requested_by: Option<String>,
    scope: serde_json::Value,
    status: &'static str,
    files_total: u64,
    files_done: u64,
    files_failed: u64,
    bytes_total: u64,
    bytes_done: u64,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    cancel_requested_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
    next_batch_at: Option<DateTime<Utc>>,
    error: Option<String>,
}

impl RunDocument {
    pub(crate) fn of(view: &RunView) -> Self {
        Self { next_batch_at: view.next_batch_at, ..Self::of_row(&view.run) }
    }

    pub(crate) fn of_row(run: &Run) -> Self {
        Self {
            id: run.id.to_string(),
            trigger: run.trigger.as_str(),
            requested_by: run.requested_by.map(|user| user.to_string()),
            scope: run.scope.clone(),
            status: run.status.as_str(),
            files_total: unsigned(run.files_total),
            files_done: unsigned(run.files_done),
            files_failed: unsigned(run.files_failed),
            bytes_total: unsigned(run.bytes_total),
            bytes_done: unsigned(run.bytes_done),
            created_at: run.created_at,
            started_at: run.started_at,
            cancel_requested_at: run.cancel_requested_at,
            finished_at: run.finished_at,
            next_batch_at: None,
            error: run.error.clone(),
        }
    }
}

/// An item that a run gave up.
#[derive(Debug, Serialize)]
pub(crate) struct FailureDocument {
    id: String,
    file_id: Option<String>,
    filename: Option<String>,
    object_id: String,
    store: String,
    attempts: i32,
    error: String,
    created_at: DateTime<Utc>,
}

impl FailureDocument {
    pub(crate) fn of(failure: &RunFailure) -> Self {
        Self {
            id: failure.id.to_string(),
            file_id: failure.file_id.map(|file| file.to_string()),
            filename: failure.filename.clone(),
            object_id: failure.object_id.to_string(),
            store: failure.store.clone(),
            attempts: failure.attempts,
            error: failure.error.clone(),
            created_at: failure.created_at,
        }
    }
}

/// A worker process.
#[derive(Debug, Serialize)]
pub(crate) struct WorkerDocument {
    id: String,
    host: String,
    pid: i32,
    version: String,
    state: String,
    up: bool,
    started_at: DateTime<Utc>,
    heartbeat_at: DateTime<Utc>,
    stores_down: Vec<String>,
}

impl WorkerDocument {
    pub(crate) fn of(worker: &Worker, up: bool) -> Self {
        Self {
            id: worker.id.to_string(),
            host: worker.host.clone(),
            pid: worker.pid,
            version: worker.version.clone(),
            state: worker.state.clone(),
            up,
            started_at: worker.started_at,
            heartbeat_at: worker.heartbeat_at,
            stores_down: worker.waits_for().into_iter().map(str::to_owned).collect(),
        }
    }
}

/// How long what is left of the active run takes.
#[derive(Debug, Serialize)]
pub(crate) struct BacklogDocument {
    files: u64,
    bytes: u64,
    needs_seconds: Option<u64>,
    window_seconds: Option<u64>,
    exceeds_window: bool,
}

impl BacklogDocument {
    pub(crate) fn of(forecast: &Forecast) -> Self {
        Self {
            files: forecast.files,
            bytes: forecast.bytes,
            needs_seconds: forecast.needs.map(|time| time.as_secs()),
            window_seconds: forecast.window.map(|time| time.as_secs()),
            exceeds_window: forecast.exceeds_window(),
        }
    }
}
