//! Files.

use chrono::{DateTime, Utc};
use nightferry_core::db::enums::ReplicaState;
use nightferry_core::db::replicas::Replica;
use nightferry_core::error::PendingRestore;
use nightferry_core::file::details::FileView;
use nightferry_core::tiering::placement;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// A file with its current version.
#[derive(Serialize, ToSchema)]
#[allow(clippy::struct_field_names, reason = "the contract's names")]
pub(crate) struct File {
    /// Id.
    id: Uuid,
    /// Name.
    filename: String,
    /// Name at the first upload.
    original_filename: String,
    /// Folder it is in.
    folder_id: Uuid,
    /// Owner.
    owner_id: Uuid,
    /// Size in bytes.
    file_size: i64,
    /// MIME type.
    content_type: String,
    /// SHA-256 of the bytes, hex.
    sha256: String,
    /// Number of the current version.
    version: i32,
    /// Name of the store that is its home.
    #[schema(example = "minio")]
    storage_location: String,
    /// Names of the stores that hold it, verified.
    locations: Vec<String>,
    /// This service's own download address.
    access_url: String,
    /// Outcome of the malware scan.
    scan_status: String,
    /// Whether there is a thumbnail.
    has_thumbnail: bool,
    /// Never freed locally while set.
    pinned: bool,
    /// When the current version was uploaded.
    uploaded_at: DateTime<Utc>,
    /// When the cloud copy was verified.
    synced_at: Option<DateTime<Utc>>,
    /// When the file was made.
    created_at: DateTime<Utc>,
    /// When anything about it last changed.
    updated_at: DateTime<Utc>,
    /// When it went to the trash.
    deleted_at: Option<DateTime<Utc>>,
}

impl File {
    /// The file as its owner sees it, with its download address.
    pub(crate) fn new(view: FileView, access_url: String) -> Self {
        let row = view.row;
        Self {
            id: row.id.0,
            filename: row.filename,
            original_filename: row.original_filename,
            folder_id: row.folder_id.0,
            owner_id: row.owner_id.0,
            file_size: row.file_size,
            content_type: row.content_type,
            sha256: view.sha256,
            version: row.current_version,
            storage_location: row.storage_location,
            locations: view.locations,
            access_url,
            scan_status: row.scan_status,
            has_thumbnail: false,
            pinned: row.pinned,
            uploaded_at: row.uploaded_at,
            synced_at: row.synced_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            deleted_at: row.deleted_at,
        }
    }
}

/// A page of files.
#[derive(Serialize, ToSchema)]
pub(crate) struct FilePage {
    /// The files.
    pub(crate) files: Vec<File>,
    /// For the next page; none on the last one.
    pub(crate) next_cursor: Option<String>,
}

/// Which files, in which order.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListFiles {
    /// A folder's id, or `root` for the top; everywhere when absent.
    pub(crate) folder_id: Option<String>,
    /// Part of the name, without regard to case.
    pub(crate) q: Option<String>,
    /// Name of the home store.
    pub(crate) location: Option<String>,
    /// MIME type; `image/*` for all of a kind.
    pub(crate) content_type: Option<String>,
    /// Of the trash instead of the live ones.
    #[param(value_type = Option<bool>)]
    pub(crate) trashed: Option<String>,
    /// Order; by `uploaded_at` when absent.
    #[param(value_type = Option<SortBy>, inline)]
    pub(crate) sort: Option<String>,
    /// Direction; when absent, `desc` by `uploaded_at`, else `asc`.
    #[param(value_type = Option<Direction>, inline)]
    pub(crate) order: Option<String>,
    /// 1 to 200; 50 when absent.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    pub(crate) limit: Option<String>,
    /// `next_cursor` of the page before, with the same order.
    pub(crate) cursor: Option<String>,
}

/// What a list of files is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SortBy {
    /// Name.
    Name,
    /// Size in bytes.
    Size,
    /// Time of the current version's upload.
    UploadedAt,
}

/// Direction of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Direction {
    /// Smallest first.
    Asc,
    /// Largest first.
    Desc,
}

/// What is to be different about a file; what is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeFile {
    /// New name.
    pub(crate) filename: Option<String>,
    /// Folder to move it to: an id, or `root`.
    pub(crate) folder_id: Option<String>,
    /// Whether its local copies are kept, of all its versions.
    pub(crate) pinned: Option<bool>,
}

/// How to delete.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeleteFile {
    /// For good, with all versions, instead of to the trash.
    #[param(value_type = Option<bool>)]
    pub(crate) permanent: Option<String>,
}

/// What to download.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Download {
    /// Number of a version; the current one when absent.
    #[param(value_type = Option<i32>, minimum = 1)]
    pub(crate) version: Option<String>,
    /// `inline` or `attachment`, the default.
    #[param(value_type = Option<DispositionWord>, inline)]
    pub(crate) disposition: Option<String>,
}

/// What a browser does with a download.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documentation of a query field")]
#[schema(rename_all = "lowercase")]
pub(crate) enum DispositionWord {
    /// Shows it.
    Inline,
    /// Saves it.
    Attachment,
}

/// Which link is wanted.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct DownloadUrlRequest {
    /// Life of the link in seconds, 1 to 604800; 3600 when absent.
    #[schema(minimum = 1, maximum = 604_800)]
    pub(crate) expires_in: Option<i64>,
    /// Number of a version; the current one when absent.
    pub(crate) version: Option<i32>,
}

/// A link straight to a store. Whoever has it can download until it ends.
#[derive(Serialize, ToSchema)]
pub(crate) struct DownloadUrl {
    /// The link.
    pub(crate) url: String,
    /// When it ends.
    pub(crate) expires_at: DateTime<Utc>,
}

/// The form of an upload; `file` comes last.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documentation of a form that is read as a stream")]
pub(crate) struct UploadForm {
    /// A folder's id, or `root`, the default.
    #[schema(required = false)]
    folder_id: String,
    /// SHA-256 of the file, hex: refused when the bytes differ.
    #[schema(required = false)]
    sha256: String,
    /// What to do when a live file of the name is in the folder.
    #[schema(required = false)]
    on_conflict: OnConflictWord,
    /// The file, after all other fields, with its name.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    file: String,
}

/// What to do when a live file of the name is in the folder.
#[derive(ToSchema)]
#[allow(dead_code, reason = "documentation of a form that is read as a stream")]
#[schema(rename_all = "lowercase", default = "version")]
pub(crate) enum OnConflictWord {
    /// The upload becomes its next version.
    Version,
    /// The upload gets a free name.
    Rename,
    /// The upload is refused.
    Fail,
}

/// What a download of an archived file answers in place of the bytes.
#[derive(Serialize, ToSchema)]
pub(crate) struct Archived {
    /// How far it is.
    pub(crate) restore: RestoreJob,
}

/// An archived copy that is made readable.
#[derive(Serialize, ToSchema)]
pub(crate) struct RestoreJob {
    /// Id.
    id: uuid::Uuid,
    /// Store that holds it.
    store: String,
    /// `wanted`, `restoring`, `ready` or `failed`.
    #[schema(example = "restoring")]
    state: &'static str,
    /// When somebody first asked.
    requested_at: DateTime<Utc>,
    /// When it could be read.
    ready_at: Option<DateTime<Utc>>,
    /// Until when.
    expires_at: Option<DateTime<Utc>>,
    /// When the store is asked next.
    next_look_at: Option<DateTime<Utc>>,
}

impl From<PendingRestore> for RestoreJob {
    fn from(restore: PendingRestore) -> Self {
        Self {
            id: restore.id,
            store: restore.store,
            state: restore.state,
            requested_at: restore.requested_at,
            ready_at: restore.ready_at,
            expires_at: restore.expires_at,
            next_look_at: restore.next_check_at,
        }
    }
}

/// Where a file is, why, and what follows.
#[derive(Serialize, ToSchema)]
pub(crate) struct Placement {
    /// Where it is or should be.
    replicas: Vec<ReplicaStatus>,
    /// The rule that decided.
    rule: String,
    /// Restores of archived copies.
    restores: Vec<RestoreJob>,
    /// What follows.
    next: NextStep,
}

/// A file's bytes in one store.
#[derive(Serialize, ToSchema)]
pub(crate) struct ReplicaStatus {
    /// Name of the store.
    store: String,
    /// How far it is true that they are there.
    #[schema(example = "present")]
    state: &'static str,
    /// When it was proved.
    verified_at: Option<DateTime<Utc>>,
    /// Failed tries since it was queued.
    attempts: i32,
    /// What the last try met.
    last_error: Option<String>,
    /// Not tried again before this, while it is queued.
    next_attempt_at: Option<DateTime<Utc>>,
    /// Whether they are encrypted there.
    encrypted: bool,
}

/// What happens to a file next.
#[derive(Serialize, ToSchema)]
pub(crate) struct NextStep {
    /// `copy`, `copying`, `move` (its store is being emptied), `free`, `removed`, `retry` (on request), `lost` (no verified copy is left) or `none`.
    #[schema(example = "copy")]
    action: &'static str,
    /// When, if that is known.
    at: Option<DateTime<Utc>>,
}

impl From<placement::Placement> for Placement {
    fn from(placement: placement::Placement) -> Self {
        Self {
            replicas: placement.replicas.into_iter().map(ReplicaStatus::from).collect(),
            rule: placement.rule,
            restores: placement
                .restores
                .into_iter()
                .map(PendingRestore::from)
                .map(RestoreJob::from)
                .collect(),
            next: NextStep { action: placement.next.action, at: placement.next.at },
        }
    }
}

impl From<Replica> for ReplicaStatus {
    fn from(replica: Replica) -> Self {
        Self {
            next_attempt_at: (replica.state == ReplicaState::Queued).then_some(replica.not_before),
            encrypted: replica.key_id.is_some(),
            store: replica.store,
            state: replica.state.as_str(),
            verified_at: replica.verified_at,
            attempts: replica.attempts,
            last_error: replica.last_error,
        }
    }
}
