//! Where files are stored, why, and what happens next.

use chrono::{DateTime, Utc};
use nightferry_core::db::enums::ReplicaState;
use nightferry_core::db::files::FileRow;
use nightferry_core::db::replicas::Replica;
use nightferry_core::db::restores::Restore;
use nightferry_core::error::PendingRestore;
use nightferry_core::tiering::placement;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// The response to a download of an archived file, instead of the content.
#[derive(Serialize, ToSchema)]
pub struct Archived {
    /// The restore in progress.
    pub restore: RestoreJob,
}

/// The restore of an archived copy.
#[derive(Serialize, ToSchema)]
pub struct RestoreJob {
    /// Id.
    pub id: Uuid,
    /// Store that contains it.
    pub store: String,
    /// `wanted`, `restoring`, `ready` or `failed`.
    #[schema(example = "restoring")]
    pub state: &'static str,
    /// When it was first requested.
    pub requested_at: DateTime<Utc>,
    /// When it became readable.
    pub ready_at: Option<DateTime<Utc>>,
    /// Until when it is readable.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the store is polled next.
    pub next_check_at: Option<DateTime<Utc>>,
}

impl From<&PendingRestore> for RestoreJob {
    fn from(restore: &PendingRestore) -> Self {
        Self {
            id: restore.id,
            store: restore.store.clone(),
            state: restore.state,
            requested_at: restore.requested_at,
            ready_at: restore.ready_at,
            expires_at: restore.expires_at,
            next_check_at: restore.next_check_at,
        }
    }
}

impl From<&Restore> for RestoreJob {
    fn from(restore: &Restore) -> Self {
        Self::from(&PendingRestore::from(restore.clone()))
    }
}

/// Where a file is stored, why, and what happens next.
#[derive(Serialize, ToSchema)]
pub struct Placement {
    /// Current and planned replicas.
    pub replicas: Vec<ReplicaStatus>,
    /// The rule that applies.
    pub rule: String,
    /// Restores of archived copies.
    pub restores: Vec<RestoreJob>,
    /// The next step.
    pub next: NextStep,
}

/// A replica of a file in one store.
#[derive(Serialize, ToSchema)]
pub struct ReplicaStatus {
    /// Name of the store.
    pub store: String,
    /// The state of the replica.
    #[schema(example = "present")]
    pub state: &'static str,
    /// When it was verified.
    pub verified_at: Option<DateTime<Utc>>,
    /// Failed attempts since it was queued.
    pub attempts: i32,
    /// The error of the last attempt.
    pub last_error: Option<String>,
    /// Not retried before this time, while it is queued.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Since when it is suspect: found missing or wrong, and not repaired yet. Its state is then `lost`.
    pub suspect_since: Option<DateTime<Utc>>,
}

/// The next step for a file.
#[derive(Serialize, ToSchema)]
pub struct NextStep {
    /// `copy`, `copying`, `move` (its store is being drained), `free`, `removed`, `retry` (by a later run, or on request),
    /// `suspect` (a copy was found missing or wrong, and is not repaired yet), `lost` (no verified copy is left) or `none`.
    #[schema(example = "copy")]
    pub action: &'static str,
    /// When, if known.
    pub at: Option<DateTime<Utc>>,
    /// The same as a sentence.
    pub because: String,
}

impl From<&placement::Placement> for Placement {
    fn from(placement: &placement::Placement) -> Self {
        Self {
            replicas: placement.replicas.iter().map(ReplicaStatus::from).collect(),
            rule: placement.rule.clone(),
            restores: placement.restores.iter().map(RestoreJob::from).collect(),
            next: NextStep::from(&placement.next),
        }
    }
}

impl From<&placement::NextStep> for NextStep {
    fn from(next: &placement::NextStep) -> Self {
        Self { action: next.action, at: next.at, because: next.because.clone() }
    }
}

impl From<&Replica> for ReplicaStatus {
    fn from(replica: &Replica) -> Self {
        Self {
            store: replica.store.clone(),
            state: replica.state.as_str(),
            verified_at: replica.verified_at,
            attempts: replica.attempts,
            last_error: replica.last_error.clone(),
            next_attempt_at: (replica.state == ReplicaState::Queued).then_some(replica.not_before),
            encrypted: replica.key_id.is_some(),
            suspect_since: replica.suspect_since.filter(|_| replica.is_suspect()),
        }
    }
}

/// A file that is explained to the operator.
pub fn explained_file(file: &FileRow) -> impl Serialize {
    document!(
        id: file.id,
        owner_id: file.owner_id,
        filename: &file.filename,
        version: file.current_version,
        file_size: file.file_size,
        content_type: &file.content_type,
        storage_location: &file.storage_location,
        pinned: file.pinned,
        uploaded_at: file.uploaded_at,
        synced_at: file.synced_at,
        deleted_at: file.deleted_at,
    )
}

/// A replica, with details for the operator.
#[derive(Serialize)]
pub struct ExplainedReplica {
    #[serde(flatten)]
    replica: ReplicaStatus,
    encryption_key: Option<String>,
}

impl From<&Replica> for ExplainedReplica {
    fn from(replica: &Replica) -> Self {
        Self { replica: ReplicaStatus::from(replica), encryption_key: replica.key_id.clone() }
    }
}

/// A restore, with details for the operator.
#[derive(Serialize)]
pub struct ExplainedRestore {
    #[serde(flatten)]
    restore: RestoreJob,
    last_error: Option<String>,
}

impl From<&Restore> for ExplainedRestore {
    fn from(restore: &Restore) -> Self {
        Self { restore: RestoreJob::from(restore), last_error: restore.last_error.clone() }
    }
}
