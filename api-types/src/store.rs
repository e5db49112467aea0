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

/// A store.
#[derive(Serialize, ToSchema)]
pub struct Store {
    /// Name.
    #[schema(example = "minio")]
    pub name: String,
    /// `local` or `cloud`.
    #[schema(example = "local")]
    pub role: &'static str,
    /// Whether it is the main store of its role.
    pub main: bool,
    /// `up`, `down`, `draining`, `drained`, or `unknown` if no process has checked it recently.
    #[schema(example = "up")]
    pub state: &'static str,
    /// Health as seen by the running processes.
    pub health: StoreHealth,
    /// Capacity in bytes, if limited.
    pub capacity_bytes: Option<u64>,
    /// Bytes used.
    pub used_bytes: u64,
    /// Replicas by state; states without replicas are omitted.
    pub replicas: Vec<ReplicaCount>,
    /// Present from the start of a drain until the store is returned to use.
    pub drain: Option<Drain>,
}

/// The health of a store as seen by the running processes.
#[derive(Serialize, ToSchema)]
pub struct StoreHealth {
    /// `up`, `down` (for at least one process), or `unknown` if none has checked it recently.
    #[schema(example = "up")]
    pub status: &'static str,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// Latency of the slowest last check in milliseconds.
    pub latency_ms: Option<u64>,
    /// The last error.
    pub last_error: Option<String>,
    /// The number of processes that check it.
    pub observers: u64,
    /// The number of those for which it is down.
    pub observers_down: u64,
    /// The time of the last check.
    pub checked_at: Option<DateTime<Utc>>,
}

/// The number of replicas in one state.
#[derive(Serialize, ToSchema)]
pub struct ReplicaCount {
    /// State.
    #[schema(example = "present")]
    pub state: &'static str,
    /// Number of replicas.
    pub replicas: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// The progress of a drain.
#[derive(Serialize, ToSchema)]
pub struct Drain {
    /// The store.
    #[schema(example = "minio")]
    pub store: String,
    /// When it was requested.
    pub requested_at: DateTime<Utc>,
    /// The account that requested it; null for the command line.
    pub requested_by: Option<Uuid>,
    /// Replicas at the start of the drain.
    pub replicas_total: u64,
    /// Their bytes.
    pub bytes_total: u64,
    /// Remaining replicas.
    pub replicas_left: u64,
    /// Their bytes.
    pub bytes_left: u64,
    /// What it is waiting for, as text.
    pub waits_for: Option<String>,
    /// When the store became empty.
    pub finished_at: Option<DateTime<Utc>>,
}

impl Drain {
    fn new(drain: &drains::Drain, replicas_left: u64, bytes_left: u64) -> Self {
        Self {
            store: drain.store.clone(),
            requested_at: drain.requested_at,
            requested_by: drain.requested_by.map(|user| user.0),
            replicas_total: unsigned(drain.replicas_total),
            bytes_total: unsigned(drain.bytes_total),
            replicas_left,
            bytes_left,
            waits_for: drain.waits_for.clone(),
            finished_at: drain.finished_at,
        }
    }
}

impl From<&Draining> for Drain {
    fn from(draining: &Draining) -> Self {
        Self::new(&draining.drain, unsigned(draining.left.replicas), unsigned(draining.left.bytes))
    }
}

impl From<&StoreView> for Store {
    fn from(view: &StoreView) -> Self {
        let (replicas_left, bytes_left) = view.left();
        Self {
            name: view.name.clone(),
            role: <&str>::from(view.role),
            main: view.is_main,
            state: view.state(),
            health: StoreHealth::new(view.health_word(), view.health.as_ref()),
            capacity_bytes: view.capacity,
            used_bytes: view.used(),
            replicas: view.states.iter().map(ReplicaCount::from).collect(),
            drain: view.drain.as_ref().map(|drain| Drain::new(drain, replicas_left, bytes_left)),
        }
    }
}

impl StoreHealth {
    fn new(status: &'static str, opinion: Option<&store_health::HealthReport>) -> Self {
        Self {
            status,
            since: opinion.and_then(|opinion| opinion.since),
            latency_ms: opinion.and_then(|it| it.latency_ms).and_then(|millis| u64::try_from(millis).ok()),
            last_error: opinion.and_then(|opinion| opinion.last_error.clone()),
            observers: opinion.map_or(0, |opinion| unsigned(opinion.observers)),
            observers_down: opinion.map_or(0, |opinion| unsigned(opinion.down)),
            checked_at: opinion.map(|opinion| opinion.checked_at),
        }
    }
}

impl From<&StateCount> for ReplicaCount {
    fn from(row: &StateCount) -> Self {
        Self { state: row.state.as_str(), replicas: unsigned(row.replicas), bytes: unsigned(row.bytes) }
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
