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

/// Every store.
#[derive(Serialize, ToSchema)]
pub(crate) struct StoreList {
    /// Local ones first, the main one of each role first.
    pub(crate) stores: Vec<Store>,
}

/// A store.
#[derive(Serialize, ToSchema)]
pub(crate) struct Store {
    /// Name.
    #[schema(example = "minio")]
    name: String,
    /// `local` or `cloud`.
    #[schema(example = "local")]
    role: &'static str,
    /// Whether it is the first of its role to be used.
    main: bool,
    /// `up`, `down`, `draining`, `drained`, or `unknown` when no process has looked lately.
    #[schema(example = "up")]
    state: &'static str,
    /// How the running processes see it.
    health: StoreHealth,
    /// Bytes that it may hold, if that is limited.
    capacity_bytes: Option<u64>,
    /// Bytes that it holds.
    used_bytes: u64,
    /// Its replicas by state; states that do not occur are left out.
    replicas: Vec<ReplicaCount>,
    /// Set while it is being emptied, and after that until it is used again.
    drain: Option<Drain>,
}

/// How the running processes see a store.
#[derive(Serialize, ToSchema)]
pub(crate) struct StoreHealth {
    /// `up`, `down` (for at least one process), or `unknown` when none has looked lately.
    #[schema(example = "up")]
    status: &'static str,
    /// Since when.
    since: Option<DateTime<Utc>>,
    /// Milliseconds of the slowest last answer.
    latency_ms: Option<u64>,
    /// What the last failure was, in words.
    last_error: Option<String>,
    /// Processes that look at it.
    observers: u64,
    /// Of those, how many see it down.
    observers_down: u64,
    /// When one of them looked last.
    checked_at: Option<DateTime<Utc>>,
}

/// How many replicas are in one state.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplicaCount {
    /// State.
    #[schema(example = "present")]
    state: &'static str,
    /// Replicas.
    replicas: u64,
    /// Bytes of those.
    bytes: u64,
}

/// How far the emptying of a store is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Drain {
    /// When it was asked for.
    requested_at: DateTime<Utc>,
    /// Who asked for it; none for the command line.
    requested_by: Option<Uuid>,
    /// Replicas that it had then.
    replicas_total: u64,
    /// Bytes of those.
    bytes_total: u64,
    /// Replicas that are still there.
    replicas_left: u64,
    /// Bytes of those.
    bytes_left: u64,
    /// What it waits for, in words.
    waits_for: Option<String>,
    /// When nothing was left.
    finished_at: Option<DateTime<Utc>>,
}

impl Drain {
    fn of(drain: drains::Drain, replicas_left: u64, bytes_left: u64) -> Self {
        Self {
            requested_at: drain.requested_at,
            requested_by: drain.requested_by.map(|user| user.0),
            replicas_total: unsigned(drain.replicas_total),
            bytes_total: unsigned(drain.bytes_total),
            replicas_left,
            bytes_left,
            waits_for: drain.waits_for,
            finished_at: drain.finished_at,
        }
    }
}

impl From<Draining> for Drain {
    fn from(draining: Draining) -> Self {
        Self::of(draining.drain, unsigned(draining.left.replicas), unsigned(draining.left.bytes))
    }
}

impl From<StoreView> for Store {
    fn from(view: StoreView) -> Self {
        let (replicas_left, bytes_left) = view.left();
        Self {
            role: view.role.as_str(),
            main: view.is_main,
            state: view.state(),
            health: StoreHealth::of(view.health_word(), view.health.as_ref()),
            capacity_bytes: view.capacity,
            used_bytes: view.used(),
            replicas: view.states.iter().map(ReplicaCount::from).collect(),
            drain: view.drain.map(|drain| Drain::of(drain, replicas_left, bytes_left)),
            name: view.name,
        }
    }
}

impl StoreHealth {
    fn of(status: &'static str, opinion: Option<&store_health::Opinion>) -> Self {
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
