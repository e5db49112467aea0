//! Health.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// Liveness.
#[derive(Serialize, ToSchema)]
pub struct Live {
    /// Always `ok`.
    pub status: &'static str,
    /// Version of the service.
    pub version: &'static str,
}

/// Readiness of the service.
#[derive(Serialize, ToSchema)]
pub struct Ready {
    /// `ok`; `degraded`: requests are served, but a component is down; `unavailable`.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// The individual checks.
    pub checks: Checks,
}

/// The results of the checks, at most a few seconds old.
#[derive(Serialize, ToSchema)]
pub struct Checks {
    /// `ok`, `read-only` (during a failover, for example) or `down`.
    #[schema(example = "ok")]
    pub database: &'static str,
    /// Stores that may not be the ones that the database knows, by name: `missing` (no identity marker), `changed`
    /// (another identity) or `shared` (the bucket of another store). Nothing is deleted from them. Absent if there are
    /// none.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub identity: BTreeMap<String, &'static str>,
    /// `ok`, or `empty`: the database contains no objects, but stores do. It is new or not the right one; nothing is deleted
    /// until the catalogue is rebuilt with `nightferry catalog rebuild`.
    #[schema(example = "ok")]
    pub catalogue: &'static str,
    /// `ok` or `down`, by the store's name.
    pub stores: BTreeMap<String, &'static str>,
    /// The workers.
    pub worker: WorkerCheck,
    /// `ok`, or `wrong`: the clock of this machine differs from that of the database by more than a minute.
    #[schema(example = "ok")]
    pub clock: &'static str,
}

/// The state of the workers.
#[derive(Serialize, ToSchema)]
pub struct WorkerCheck {
    /// The last heartbeat of any worker.
    pub last_heartbeat: Option<DateTime<Utc>>,
}
