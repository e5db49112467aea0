//! Stores.

use chrono::{DateTime, Utc};
use nightferry_core::db::replicas::StateCount;
use nightferry_core::db::unsigned;
use nightferry_core::db::{drains, store_health};
use nightferry_core::tiering::relocate::drain::Draining;
use nightferry_core::tiering::stores::StoreView;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// All stores.
#[derive(Serialize, ToSchema)]
pub struct StoreList {
    /// Local stores first, the main store of each role first.
    pub stores: Vec<Store>,
}

view! {
    /// A store.
    #[derive(Serialize, ToSchema)]
    pub struct Store: from(view: &StoreView) {
        /// Name.
        #[schema(example = "minio")]
        pub name: String = view.name.clone(),
        /// `local` or `cloud`.
        #[schema(example = "local")]
        pub role: &'static str = <&str>::from(view.role),
        /// Whether it is the main store of its role.
        pub main: bool = view.is_main,
        /// `up`, `down`, `draining`, `drained`, or `unknown` if no process has checked it recently.
        #[schema(example = "up")]
        pub state: &'static str = view.state(),
        /// Health as seen by the running processes.
        pub health: StoreHealth = StoreHealth::new(view.health_word(), view.health.as_ref()),
        /// Capacity in bytes, if limited.
        pub capacity_bytes: Option<u64> = view.capacity,
        /// Bytes used.
        pub used_bytes: u64 = view.used(),
        /// Replicas by state; states without replicas are omitted.
        pub replicas: Vec<ReplicaCount> = view.states.iter().map(ReplicaCount::from).collect(),
        /// Present from the start of a drain until the store is returned to use.
        pub drain: Option<Drain> = view.drain.as_ref().map(|drain| Drain::new(drain, view.left())),
    }
}

view! {
    /// The health of a store as seen by the running processes.
    #[derive(Serialize, ToSchema)]
    pub struct StoreHealth: new(word: &'static str, report: Option<&store_health::HealthReport>) {
        /// `up`, `down` (for at least one process), or `unknown` if none has checked it recently.
        #[schema(example = "up")]
        pub status: &'static str = word,
        /// Since when.
        pub since: Option<DateTime<Utc>> = report.and_then(|report| report.since),
        /// Latency of the slowest last check in milliseconds.
        pub latency_ms: Option<u64> = report.and_then(|report| u64::try_from(report.latency_ms?).ok()),
        /// The last error.
        pub last_error: Option<String> = report.and_then(|report| report.last_error.clone()),
        /// How what is written is verified, by the most expensive way in use: `response`, `head` (one request more) or
        /// `read` (the object is read back); null if no process knows it yet.
        #[schema(example = "response")]
        pub evidence: Option<String> = report.and_then(|report| report.evidence.clone()),
        /// The number of processes that check it.
        pub observers: u64 = report.map_or(0, |report| unsigned(report.observers)),
        /// The number of those for which it is down.
        pub observers_down: u64 = report.map_or(0, |report| unsigned(report.down)),
        /// The time of the last check.
        pub checked_at: Option<DateTime<Utc>> = report.map(|report| report.checked_at),
    }
}

view! {
    /// The number of replicas in one state.
    #[derive(Serialize, ToSchema)]
    pub struct ReplicaCount: from(row: &StateCount) {
        /// State.
        #[schema(example = "present")]
        pub state: &'static str = row.state.as_str(),
        /// Number of replicas.
        pub replicas: u64 = unsigned(row.replicas),
        /// Their bytes.
        pub bytes: u64 = unsigned(row.bytes),
        /// The number of lost replicas that are suspect: found missing or wrong, and not repaired yet.
        pub suspect: u64 = unsigned(row.suspects),
    }
}

view! {
    /// The progress of a drain.
    #[derive(Serialize, ToSchema)]
    pub struct Drain: new(drain: &drains::Drain, left: (u64, u64)) {
        /// The store.
        #[schema(example = "minio")]
        pub store: String = drain.store.clone(),
        /// When it was requested.
        pub requested_at: DateTime<Utc> = drain.requested_at,
        /// The account that requested it; null for the command line.
        pub requested_by: Option<Uuid> = drain.requested_by.map(|user| user.0),
        /// Replicas at the start of the drain.
        pub replicas_total: u64 = unsigned(drain.replicas_total),
        /// Their bytes.
        pub bytes_total: u64 = unsigned(drain.bytes_total),
        /// Remaining replicas.
        pub replicas_left: u64 = left.0,
        /// Their bytes.
        pub bytes_left: u64 = left.1,
        /// What it is waiting for, as text.
        pub waits_for: Option<String> = drain.waits_for.clone(),
        /// When the store became empty.
        pub finished_at: Option<DateTime<Utc>> = drain.finished_at,
    }
}

impl From<&Draining> for Drain {
    fn from(draining: &Draining) -> Self {
        Self::new(&draining.drain, (unsigned(draining.left.replicas), unsigned(draining.left.bytes)))
    }
}

/// Number of replicas of a store in one state.
#[derive(Serialize)]
pub struct StoreReplicaCount {
    store: String,
    #[serde(flatten)]
    count: ReplicaCount,
}

impl From<&StateCount> for StoreReplicaCount {
    fn from(row: &StateCount) -> Self {
        Self { store: row.store.clone(), count: ReplicaCount::from(row) }
    }
}
