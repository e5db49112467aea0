//! Where files are, why, and what follows.

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

/// What a download of an archived file answers in place of the bytes.
#[derive(Serialize, ToSchema)]
pub struct Archived {
    /// How far it is.
    pub restore: RestoreJob,
}

/// An archived copy that is made readable.
#[derive(Serialize, ToSchema)]
pub struct RestoreJob {
    /// Id.
    pub id: Uuid,
    /// Store that holds it.
    pub store: String,
    /// `wanted`, `restoring`, `ready` or `failed`.
    #[schema(example = "restoring")]
    pub state: &'static str,
    /// When somebody first asked.
    pub requested_at: DateTime<Utc>,
    /// When it could be read.
    pub ready_at: Option<DateTime<Utc>>,
    /// Until when.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the store is asked next.
    pub next_look_at: Option<DateTime<Utc>>,
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
            next_look_at: restore.next_check_at,
        }
    }
}

impl From<&Restore> for RestoreJob {
    fn from(restore: &Restore) -> Self {
        Self::from(&PendingRestore::from(restore.clone()))
    }
}

/// Where a file is, why, and what follows.
#[derive(Serialize, ToSchema)]
pub struct Placement {
    /// Where it is or should be.
    pub replicas: Vec<ReplicaStatus>,
    /// The rule that decided.
    pub rule: String,
    /// Restores of archived copies.
    pub restores: Vec<RestoreJob>,
    /// What follows.
    pub next: NextStep,
}

/// A file's bytes in one store.
#[derive(Serialize, ToSchema)]
pub struct ReplicaStatus {
    /// Name of the store.
    pub store: String,
    /// How far it is true that they are there.
    #[schema(example = "present")]
    pub state: &'static str,
    /// When it was proved.
    pub verified_at: Option<DateTime<Utc>>,
    /// Failed tries since it was queued.
    pub attempts: i32,
    /// What the last try met.
    pub last_error: Option<String>,
    /// Not tried again before this, while it is queued.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Whether they are encrypted there.
    pub encrypted: bool,
}

/// What happens to a file next.
#[derive(Serialize, ToSchema)]
pub struct NextStep {
    /// `copy`, `copying`, `move` (its store is being emptied), `free`, `removed`, `retry` (on request), `lost` (no verified copy is left) or `none`.
    #[schema(example = "copy")]
    pub action: &'static str,
    /// When, if that is known.
    pub at: Option<DateTime<Utc>>,
    /// The same in a sentence.
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
        }
    }
}

/// A file that is explained to the operator.
#[derive(Serialize)]
pub struct ExplainedFile {
    id: Uuid,
    owner_id: Uuid,
    filename: String,
    version: i32,
    file_size: i64,
    content_type: String,
    storage_location: String,
    pinned: bool,
    uploaded_at: DateTime<Utc>,
    synced_at: Option<DateTime<Utc>>,
    deleted_at: Option<DateTime<Utc>>,
}

impl From<&FileRow> for ExplainedFile {
    fn from(file: &FileRow) -> Self {
        Self {
            id: file.id.0,
            owner_id: file.owner_id.0,
            filename: file.filename.clone(),
            version: file.current_version,
            file_size: file.file_size,
            content_type: file.content_type.clone(),
            storage_location: file.storage_location.clone(),
            pinned: file.pinned,
            uploaded_at: file.uploaded_at,
            synced_at: file.synced_at,
            deleted_at: file.deleted_at,
        }
    }
}

/// A replica with what only the operator sees.
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

/// A restore with what only the operator sees.
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
