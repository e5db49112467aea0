//! Lists of files in keyset pages.

use diesel_async::AsyncPgConnection;

use crate::context::Context;
use crate::db::files::{self, ListQuery};
use crate::db::{folders, split_page};
use crate::error::{Error, Noun, Result};
use crate::ids::{FolderId, UserId};

use super::details::{FileView, with_locations};

/// A folder as named in the API: by id, or `root` for the caller's root folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FolderRef {
    /// The caller's root folder.
    Root,
    /// A folder by id.
    Id(FolderId),
}

/// One page of at most `wanted.limit` files, and whether there are more.
pub async fn page(context: &Context, mut wanted: ListQuery) -> Result<(Vec<FileView>, bool)> {
    let limit = wanted.limit;
    wanted.limit = limit.saturating_add(1);
    let mut conn = context.db.conn().await?;
    let (rows, more) = split_page(files::list(&mut conn, &wanted).await?, limit);
    Ok((with_locations(&mut conn, rows).await?, more))
}

/// Resolves a folder reference for its owner.
///
/// # Errors
/// [`Error::NotFound`], also for folders of other users.
pub async fn resolve_folder(context: &Context, owner: UserId, folder: FolderRef) -> Result<FolderId> {
    folder_of(&mut *context.db.conn().await?, owner, folder).await
}

/// The same on a connection of the caller.
pub(super) async fn folder_of(
    conn: &mut AsyncPgConnection,
    owner: UserId,
    folder: FolderRef,
) -> Result<FolderId> {
    match folder {
        FolderRef::Root => folders::root_of(conn, owner).await,
        FolderRef::Id(id) if folders::is_owned_by(conn, id, owner).await? => Ok(id),
        FolderRef::Id(_) => Err(Error::NotFound(Noun::Folder)),
    }
}
