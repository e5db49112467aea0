//! Files.

use chrono::{DateTime, Utc};
use nightferry_core::file::details::FileView;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

// `base_url` is the public URL of the service.
view! {
    /// A file with its current version.
    #[derive(Serialize, ToSchema)]
    #[allow(clippy::struct_field_names, reason = "the contract's names")]
    pub struct File: new(view: &FileView, base_url: &str) {
        /// Id.
        pub id: Uuid = view.row.id.0,
        /// Name.
        pub filename: String = view.row.filename.clone(),
        /// Name at the first upload.
        pub original_filename: String = view.row.original_filename.clone(),
        /// Folder it is in.
        pub folder_id: Uuid = view.row.folder_id.0,
        /// Owner.
        pub owner_id: Uuid = view.row.owner_id.0,
        /// Size in bytes.
        pub file_size: i64 = view.row.file_size,
        /// MIME type.
        pub content_type: String = view.row.content_type.clone(),
        /// SHA-256 of the content, hex.
        sha256: String = view.sha256.clone(),
        /// Number of the current version.
        pub version: i32 = view.row.current_version,
        /// Name of the store that is the primary location.
        #[schema(example = "minio")]
        pub storage_location: String = view.row.storage_location.clone(),
        /// Names of the stores with a verified copy.
        pub locations: Vec<String> = view.locations.clone(),
        /// The download URL at this service.
        pub access_url: String = format!("{base_url}/api/files/{}/download", view.row.id),
        /// Outcome of the malware scan.
        pub scan_status: String = view.row.scan_status.clone(),
        /// Whether there is a thumbnail.
        pub has_thumbnail: bool = false,
        /// If set, local copies are never evicted.
        pub pinned: bool = view.row.pinned,
        /// When the current version was uploaded.
        pub uploaded_at: DateTime<Utc> = view.row.uploaded_at,
        /// When the cloud copy was verified.
        pub synced_at: Option<DateTime<Utc>> = view.row.synced_at,
        /// When the file was created.
        pub created_at: DateTime<Utc> = view.row.created_at,
        /// When the file was last changed.
        pub updated_at: DateTime<Utc> = view.row.updated_at,
        /// When the file was moved to the trash.
        pub deleted_at: Option<DateTime<Utc>> = view.row.deleted_at,
    }
}

/// A page of files.
#[derive(Serialize, ToSchema)]
pub struct FilePage {
    /// The files.
    pub files: Vec<File>,
    /// The cursor of the next page; null on the last one.
    pub next_cursor: Option<String>,
}

/// Filters and order of files.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListFiles {
    /// A folder id, or `root` for the top folder; all folders if absent.
    pub folder_id: Option<String>,
    /// Part of the name, case-insensitive.
    pub q: Option<String>,
    /// Name of the primary store.
    pub location: Option<String>,
    /// MIME type; `image/*` for all of a type.
    pub content_type: Option<String>,
    /// Files in the trash instead of live files.
    #[param(value_type = Option<bool>)]
    pub trashed: Option<String>,
    /// Sort field; `uploaded_at` if absent.
    #[param(value_type = Option<SortBy>, inline)]
    pub sort: Option<String>,
    /// Direction; if absent, `desc` for `uploaded_at`, otherwise `asc`.
    #[param(value_type = Option<Direction>, inline)]
    pub order: Option<String>,
    /// 1 to 200, by default 50.
    #[param(value_type = Option<i64>, minimum = 1, maximum = 200)]
    pub limit: Option<String>,
    /// `next_cursor` of the previous page, with the same order.
    pub cursor: Option<String>,
}

/// The sort field of a list of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SortBy {
    /// Name.
    Name,
    /// Size in bytes.
    Size,
    /// Upload time of the current version.
    UploadedAt,
}

/// The direction of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Smallest first.
    Asc,
    /// Largest first.
    Desc,
}

/// Changes of a file; omitted fields do not change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeFile {
    /// New name.
    pub filename: Option<String>,
    /// Destination folder: an id, or `root`.
    pub folder_id: Option<String>,
    /// Whether the local copies of all its versions are kept.
    pub pinned: Option<bool>,
}

/// Options of a deletion.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeleteFile {
    /// Permanently, with all versions, instead of to the trash.
    #[param(value_type = Option<bool>)]
    pub permanent: Option<String>,
}

/// Options of a download.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Download {
    /// Number of a version; the current one if absent.
    #[param(value_type = Option<i32>, minimum = 1)]
    pub version: Option<String>,
    /// `inline` or `attachment`, the default.
    #[param(value_type = Option<Disposition>, inline)]
    pub disposition: Option<String>,
}

/// How a browser handles a download.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum Disposition {
    /// Displays it.
    Inline,
    /// Save the file.
    #[default]
    Attachment,
}

/// Options of a presigned URL.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DownloadUrlRequest {
    /// Lifetime of the URL in seconds, 1 to 604800; 3600 if absent.
    #[schema(minimum = 1, maximum = 604_800)]
    pub expires_in: Option<i64>,
    /// Number of a version; the current one if absent.
    pub version: Option<i32>,
}

/// A presigned URL of a store. It works for anyone until it expires.
#[derive(Serialize, ToSchema)]
pub struct DownloadUrl {
    /// The URL.
    pub url: String,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
}

/// The form of an upload; `file` comes last.
#[derive(ToSchema)]
pub struct UploadForm {
    /// A folder's id, or `root`, the default.
    #[schema(required = false)]
    pub folder_id: String,
    /// SHA-256 of the file, hex: the upload is rejected if it differs.
    #[schema(required = false)]
    pub sha256: String,
    /// What to do if the folder contains a live file with this name.
    #[schema(required = false)]
    pub on_conflict: OnConflictWord,
    /// The file content and name, after all other fields.
    #[schema(format = Binary, content_media_type = "application/octet-stream")]
    pub file: String,
}

/// What to do if the folder contains a live file with this name.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase", default = "version")]
pub enum OnConflictWord {
    /// The upload becomes the next version of the existing file.
    Version,
    /// The upload gets an unused name.
    Rename,
    /// The upload is rejected.
    Fail,
}
