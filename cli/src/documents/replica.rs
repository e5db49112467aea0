//! Replicas: those of a file, and how many there are.

use chrono::{DateTime, Utc};
use nightferry_core::db::replicas::{Replica, StateCount};
use nightferry_core::db::unsigned;
use serde::Serialize;

/// How many replicas of a store are in a state.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicaCountDocument {
    store: String,
    state: &'static str,
    replicas: u64,
    bytes: u64,
}

impl ReplicaCountDocument {
    pub(crate) fn of(count: &StateCount) -> Self {
        Self {
            store: count.store.clone(),
            state: count.state.as_str(),
            replicas: unsigned(count.replicas),
            bytes: unsigned(count.bytes),
        }
    }
}

/// A replica of a file's current version.
#[derive(Debug, Serialize)]
pub(crate) struct ReplicaDocument {
    store: String,
    state: &'static str,
    verified_at: Option<DateTime<Utc>>,
    attempts: i32,
    last_error: Option<String>,
    next_attempt_at: Option<DateTime<Utc>>,
    encryption_key: Option<String>,
}

impl ReplicaDocument {
    pub(crate) fn of(replica: &Replica) -> Self {
        use nightferry_core::db::enums::ReplicaState;
        Self {
            store: replica.store.clone(),
            state: replica.state.as_str(),
            verified_at: replica.verified_at,
            attempts: replica.attempts,
            last_error: replica.last_error.clone(),
            next_attempt_at: (replica.state == ReplicaState::Queued).then_some(replica.not_before),
            encryption_key: replica.key_id.clone(),
        }
    }
}
