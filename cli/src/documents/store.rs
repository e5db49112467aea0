//! Stores, and how far their emptying is.

use chrono::{DateTime, Utc};
use nightferry_core::db::drains::Drain;
use nightferry_core::db::replicas::StateCount;
use nightferry_core::db::unsigned;
use nightferry_core::tiering::relocate::drain::Draining;
use nightferry_core::tiering::stores::StoreView;
use serde::Serialize;

/// How far the emptying of a store is.
#[derive(Debug, Serialize)]
pub(crate) struct DrainDocument {
    store: String,
    requested_at: DateTime<Utc>,
    replicas_total: u64,
    bytes_total: u64,
    replicas_left: u64,
    bytes_left: u64,
    waits_for: Option<String>,
    finished_at: Option<DateTime<Utc>>,
}

impl DrainDocument {
    pub(crate) fn of(draining: &Draining) -> Self {
        Self::new(&draining.drain, unsigned(draining.left.replicas), unsigned(draining.left.bytes))
    }

    fn new(drain: &Drain, replicas_left: u64, bytes_left: u64) -> Self {
        Self {
            store: drain.store.clone(),
            requested_at: drain.requested_at,
            replicas_total: unsigned(drain.replicas_total),
            bytes_total: unsigned(drain.bytes_total),
            replicas_left,
            bytes_left,
            waits_for: drain.waits_for.clone(),
            finished_at: drain.finished_at,
        }
    }
}

/// A store.
#[derive(Debug, Serialize)]
pub(crate) struct StoreDocument {
    name: String,
    role: &'static str,
    main: bool,
    state: &'static str,
    health: StoreHealthDocument,
    capacity_bytes: Option<u64>,
    used_bytes: u64,
    replicas: Vec<StateCountDocument>,
    drain: Option<DrainDocument>,
}

#[derive(Debug, Serialize)]
struct StoreHealthDocument {
    status: &'static str,
    since: Option<DateTime<Utc>>,
    latency_ms: Option<i32>,
    last_error: Option<String>,
    observers: u64,
    observers_down: u64,
}

#[derive(Debug, Serialize)]
struct StateCountDocument {
    state: &'static str,
    replicas: u64,
    bytes: u64,
}

impl StoreDocument {
    pub(crate) fn of(store: &StoreView) -> Self {
        let (replicas_left, bytes_left) = store.left();
        let health = store.health.as_ref();
        let count = |row: &StateCount| StateCountDocument {
            state: row.state.as_str(),
            replicas: unsigned(row.replicas),
            bytes: unsigned(row.bytes),
        };
        Self {
            name: store.name.clone(),
            role: store.role.as_str(),
            main: store.is_main,
            state: store.state(),
            health: StoreHealthDocument {
                status: store.health_word(),
                since: health.and_then(|health| health.since),
                latency_ms: health.and_then(|health| health.latency_ms),
                last_error: health.and_then(|health| health.last_error.clone()),
                observers: health.map_or(0, |health| unsigned(health.observers)),
                observers_down: health.map_or(0, |health| unsigned(health.down)),
            },
            capacity_bytes: store.capacity,
            used_bytes: store.used(),
            replicas: store.states.iter().map(count).collect(),
            drain: store.drain.as_ref().map(|drain| DrainDocument::new(drain, replicas_left, bytes_left)),
        }
    }
}
