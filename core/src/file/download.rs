//! Which version of a file is read, and that it was. [`crate::object::read`] reads the bytes.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Files;
use crate::context::Context;
use crate::db::{files, unsigned};
use crate::error::{Error, Result};
use crate::ids::{FileId, UserId};
use crate::object::read::{self, Source};
use crate::store::{ByteRange, ObjectKey, StoreRole};

/// Bytes of a file on their way out.
pub type DownloadBody = read::Body;

/// A version of a file that is to be read.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name to save it under.
    pub filename: String,
    /// MIME type.
    pub content_type: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256, hex; the entity tag.
    pub sha256: String,
    /// When the version was made.
    pub modified: DateTime<Utc>,
    file_id: FileId,
    source: Source,
}

/// Finds what is to be read: the current version, or the one with this number.
///
/// # Errors
/// [`Error::NotFound`], also for other people's files and for the trash.
pub async fn find(context: &Context, owner: UserId, id: FileId, version: Option<i32>) -> Result<Target> {
    let mut conn = context.db.conn().await?;
    let (row, version) = files::version_object(&mut conn, id, Some(owner), version)
        .await?
        .ok_or(Error::NotFound(if version.is_some() { "version of this file" } else { "file" }))?;
    let size = unsigned(version.size.unwrap_or(0));
    let source = Source {
        object_id: version.object_id,
        key: parse_key(&version.key)?,
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

fn parse_key(key: &str) -> Result<ObjectKey> {
    ObjectKey::parse(key).map_err(|error| Error::Internal(format!("object key in the database: {error}")))
}

/// Opens the bytes of `range` (none: all of them); the range must lie within the file.
///
/// # Errors
/// [`Error::Archived`] when all copies are; a restore was requested then.
/// [`Error::StoreUnavailable`] when no store that holds them answers.
pub async fn open(files: &Files, target: &Target, range: Option<ByteRange>) -> Result<DownloadBody> {
    let (body, role) = read::open(&files.context, &target.source, range).await?;
    if let Some(role) = role {
        note(files, target, role);
    }
    Ok(body)
}

/// A link straight to a store, for a client that need not come through this service, and when it ends.
///
/// # Errors
/// As [`open`]; [`Error::Conflict`] when every copy is encrypted.
pub async fn presign(files: &Files, target: &Target, disposition: &str, expires: Duration) -> Result<String> {
    let (url, role) =
        read::presign(&files.context, &target.source, disposition, &target.content_type, expires).await?;
    note(files, target, role);
    Ok(url)
}

/// Notes that a file is read from a store of this role.
fn note(files: &Files, target: &Target, role: StoreRole) {
    let afar = role != StoreRole::Local;
    files.accesses.note(target.file_id, target.source.object_id, files.context.clock.now(), afar);
}
