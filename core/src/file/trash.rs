//! Moving files to the trash, and permanent deletion.

use diesel_async::AsyncConnection;

use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::{files, objects, users};
use crate::error::{Error, Noun, Result};
use crate::ids::{FileId, UserId};

/// Moves a file to the trash. Its content is kept.
///
/// # Errors
/// [`Error::NotFound`], also if it is already in the trash.
pub async fn send(
    context: &Context,
    owner: UserId,
    id: FileId,
    actor: Option<UserId>,
    origin: &Origin,
) -> Result<()> {
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        if !files::trash(conn, id, owner).await? {
            return Err(Error::NotFound(Noun::File));
        }
        audit::record(conn, origin, actor, "file.trash", ("file", id), serde_json::json!({})).await
    })
    .await
}

/// Deletes a file and all its versions permanently. Objects that no other version references are marked for removal in
/// the same transaction; the reaper then deletes them from every store.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn purge(context: &Context, owner: UserId, id: FileId, origin: &Origin) -> Result<()> {
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        // First, as in every upload: see the lock order in [`crate::db`].
        users::lock(conn, owner).await?.ok_or(Error::NotFound(Noun::File))?;
        let Some((object_ids, bytes)) = files::purge(conn, id, owner).await? else {
            return Err(Error::NotFound(Noun::File));
        };
        objects::remove_unreferenced(conn, &object_ids).await?;
        users::book_bytes(conn, owner, -bytes).await?;
        let detail = serde_json::json!({ "bytes": bytes });
        audit::record(conn, origin, Some(owner), "file.purge", ("file", id), detail).await
    })
    .await
}
