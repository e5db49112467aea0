//! One file as shown to its owner.

use diesel_async::AsyncPgConnection;

use crate::context::Context;
use crate::db::enums::ReplicaState;
use crate::db::files::{self, FileRow, FileWithObject};
use crate::db::replicas;
use crate::error::{Error, Noun, Result};
use crate::ids::{FileId, ObjectId, UserId};

/// A file with its current version.
#[derive(Debug, Clone)]
pub struct FileView {
    /// The row.
    pub row: FileRow,
    /// Object of the current version.
    pub object_id: ObjectId,
    /// SHA-256 of the current version, hex.
    pub sha256: String,
    /// Names of the stores with a verified copy.
    pub locations: Vec<String>,
}

/// Finds a file of `owner`, including files in the trash.
///
/// # Errors
/// [`Error::NotFound`], also for files of other users.
pub async fn find(context: &Context, owner: UserId, id: FileId) -> Result<FileView> {
    of_owner(&mut *context.db.conn().await?, owner, id).await
}

/// The same within the caller's transaction.
///
/// # Errors
/// As [`find`].
pub async fn of_owner(conn: &mut AsyncPgConnection, owner: UserId, id: FileId) -> Result<FileView> {
    let found = files::find(conn, id, Some(owner)).await?.ok_or(Error::NotFound(Noun::File))?;
    let mut views = with_locations(conn, vec![found]).await?;
    views.pop().ok_or(Error::NotFound(Noun::File))
}

/// Adds the locations to rows: one query for all of them.
pub async fn with_locations(
    conn: &mut AsyncPgConnection,
    rows: Vec<FileWithObject>,
) -> Result<Vec<FileView>> {
    let objects: Vec<ObjectId> = rows.iter().map(|(_, object, _)| *object).collect();
    let present = replicas::of_objects(conn, &objects).await?;
    let view = |(row, object_id, sha256): FileWithObject| FileView {
        locations: present
            .iter()
            .filter(|replica| replica.object_id == object_id && replica.state == ReplicaState::Present)
            .map(|replica| replica.store.clone())
            .collect(),
        sha256: sha256.map(hex::encode).unwrap_or_default(),
        row,
        object_id,
    };
    Ok(rows.into_iter().map(view).collect())
}
