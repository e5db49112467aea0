//! Selects the version of a file to read and records the access. [`crate::object::read`] reads the bytes.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Files;
use crate::context::Context;
use crate::db::{files, unsigned};
use crate::error::{Error, Noun, Result};
use crate::ids::{FileId, UserId};
use crate::object::read::{self, Source};
use crate::store::{ByteRange, ObjectKey, StoreRole};

/// The content of a file being sent.
pub type DownloadBody = read::Body;

/// A version of a file to read.
#[derive(Debug, Clone)]
pub struct Target {
    /// File name.
    pub filename: String,
    /// MIME type.
    pub content_type: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256, hex; the ETag.
    pub sha256: String,
    /// When the version was created.
    pub modified: DateTime<Utc>,
    file_id: FileId,
    source: Source,
}

/// Finds the version to read: the current one, or the one with this number.
///
/// # Errors
/// [`Error::NotFound`], also for files of other users and in the trash.
pub async fn find(context: &Context, owner: UserId, id: FileId, version: Option<i32>) -> Result<Target> {
    let (row, version) = files::version_object(&mut *context.db.conn().await?, id, Some(owner), version)
        .await?
        .ok_or(Error::NotFound(if version.is_some() { Noun::Version } else { Noun::File }))?;
    let size = unsigned(version.size.unwrap_or(0));
    let source = Source {
        object_id: version.object_id,
        key: ObjectKey::parse(&version.key)?,
        size,
        requested_by: Some(owner),
    };
    Ok(Target {
        filename: row.filename,
        content_type: version.content_type,
        size,
        sha256: version.sha256.map(hex::encode).unwrap_or_default(),
        modified: version.created_at,
        file_id: id,
        source,
    })
}

/// Opens the bytes of `range` (`None`: all of them); the range must lie within the file.
///
/// # Errors
/// [`Error::Archived`] if all copies are archived; a restore has then been requested. [`Error::StoreUnavailable`] if no
/// store that holds a copy is reachable.
pub async fn open(files: &Files, target: &Target, range: Option<ByteRange>) -> Result<DownloadBody> {
    let (body, role) = read::open(&files.context, &target.source, range).await?;
    if let Some(role) = role {
        note(files, target, role);
    }
    Ok(body)
}

/// A presigned URL of a store, for clients that need not use this service, and its expiry.
///
/// # Errors
/// As for [`open`]; [`Error::Conflict`] if every copy is encrypted.
pub async fn presign(files: &Files, target: &Target, disposition: &str, expires: Duration) -> Result<String> {
    let (url, role) =
        read::presign(&files.context, &target.source, disposition, &target.content_type, expires).await?;
    note(files, target, role);
    Ok(url)
}

/// Records that a file is read from a store with this role.
fn note(files: &Files, target: &Target, role: StoreRole) {
    let afar = role != StoreRole::Local;
    files.accesses.note(target.file_id, target.source.object_id, files.context.clock.now(), afar);
}
