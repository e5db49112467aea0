//! Health.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::health::Report;

/// That the process lives.
#[derive(Serialize, ToSchema)]
pub(crate) struct Live {
    /// Always `ok`.
    pub(crate) status: &'static str,
    /// Version of the service.
    pub(crate) version: &'static str,
}

/// Whether the service can do its work.
#[derive(Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ok`; `degraded`: requests are served, but something is down; `unavailable`.
    #[schema(example = "ok")]
    pub(crate) status: &'static str,
    /// One by one.
    pub(crate) checks: Checks,
}

/// What was looked at, a few seconds ago at most.
#[derive(Serialize, ToSchema)]
pub(crate) struct Checks {
    /// `ok` or `down`.
    #[schema(example = "ok")]
    pub(crate) database: &'static str,
    /// `ok` or `down`, by the store's name.
    pub(crate) stores: BTreeMap<String, &'static str>,
    /// The workers.
    pub(crate) worker: WorkerCheck,
}

/// The workers, as far as they are heard of.
#[derive(Serialize, ToSchema)]
pub(crate) struct WorkerCheck {
    /// Last sign of life of any of them.
    pub(crate) last_heartbeat: Option<DateTime<Utc>>,
}

impl From<&Report> for Ready {
    fn from(report: &Report) -> Self {
        let word = |up: bool| if up { "ok" } else { "down" };
        let status = match (report.is_ready(), report.is_whole()) {
            (false, _) => "unavailable",
            (true, false) => "degraded",
            (true, true) => "ok",
        };
        Self {
            status,
            checks: Checks {
                database: word(report.database),
                stores: report.stores.iter().map(|(name, up)| (name.clone(), word(*up))).collect(),
                worker: WorkerCheck { last_heartbeat: report.last_heartbeat },
            },
        }
    }
}
