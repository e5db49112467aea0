//! Changes of a file that do not change its content: name, folder, pin.

use diesel_async::AsyncConnection;

use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::file_changes::{self, FileChange};
use crate::db::files;
use crate::error::{Error, Noun, Result};
use crate::ids::{FileId, UserId};

use super::details::{self, FileView};
use super::list::{FolderRef, resolve_folder};
use super::name;

/// The changes. `None` leaves a value unchanged.
#[derive(Debug, Clone, Default)]
pub struct Change {
    /// Name.
    pub filename: Option<String>,
    /// Folder.
    pub folder: Option<FolderRef>,
    /// Whether its local copies are kept.
    pub pinned: Option<bool>,
}

/// Changes a live file. Returns its new state.
///
/// # Errors
/// [`Error::NotFound`], also for files and folders of other users, and for files in the trash; [`Error::Validation`],
/// [`Error::NameTaken`].
pub async fn change(context: &Context, owner: UserId, id: FileId, change: Change) -> Result<FileView> {
    let filename = change.filename.as_deref().map(|text| name::check(text, "filename")).transpose()?;
    let folder_id = match change.folder {
        Some(folder) => Some(resolve_folder(context, owner, folder).await?),
        None => None,
    };
    let mut conn = context.db.conn().await?;
    let wanted = FileChange { filename, folder_id, pinned: change.pinned };
    match file_changes::change(&mut conn, id, Some(owner), &wanted).await {
        Ok(true) => details::of_owner(&mut conn, owner, id).await,
        Ok(false) => Err(Error::NotFound(Noun::File)),
        // Moved, not renamed: the conflicting name is the file's current one.
        Err(Error::NameTaken(name)) if name.is_empty() => {
            let found = files::find(&mut conn, id, Some(owner)).await?;
            Err(Error::NameTaken(found.map(|(row, _, _)| row.filename).unwrap_or_default()))
        }
        Err(error) => Err(error),
    }
}

/// Pins or unpins a file of any owner: while it is pinned, no local copy of any of its versions is evicted.
///
/// # Errors
/// [`Error::NotFound`], also for files in the trash.
pub async fn pin(context: &Context, id: FileId, pinned: bool, origin: &Origin) -> Result<FileView> {
    let mut conn = context.db.conn().await?;
    let wanted = FileChange { pinned: Some(pinned), ..FileChange::default() };
    conn.transaction(async move |conn| {
        if !file_changes::change(conn, id, None, &wanted).await? {
            return Err(Error::NotFound(Noun::File));
        }
        let action = if pinned { "file.pin" } else { "file.unpin" };
        audit::record(conn, origin, None, action, ("file", id), serde_json::json!({})).await?;
        let found = files::find(conn, id, None).await?.ok_or(Error::NotFound(Noun::File))?;
        details::with_locations(conn, vec![found]).await?.pop().ok_or(Error::NotFound(Noun::File))
    })
    .await
}
