//! Health.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// That the process lives.
#[derive(Serialize, ToSchema)]
pub struct Live {
    /// Always `ok`.
    pub status: &'static str,
    /// Version of the service.
    pub version: &'static str,
}

/// Whether the service can do its work.
#[derive(Serialize, ToSchema)]
pub struct Ready {
    /// `ok`; `degraded`: requests are served, but something is down; `unavailable`.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// One by one.
    pub checks: Checks,
}

/// What was looked at, a few seconds ago at most.
#[derive(Serialize, ToSchema)]
pub struct Checks {
    /// `ok` or `down`.
    #[schema(example = "ok")]
    pub database: &'static str,
    /// `ok` or `down`, by the store's name.
    pub stores: BTreeMap<String, &'static str>,
    /// The workers.
    pub worker: WorkerCheck,
}

/// The workers, as far as they are heard of.
#[derive(Serialize, ToSchema)]
pub struct WorkerCheck {
    /// Last sign of life of any of them.
    pub last_heartbeat: Option<DateTime<Utc>>,
}
