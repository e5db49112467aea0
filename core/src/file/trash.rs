//! Into the trash, and out of the world.

use diesel_async::AsyncConnection;

use crate::context::Context;
use crate::db::audit::{self, Event, Origin};
use crate::db::{files, objects, users};
use crate::error::{Error, Noun, Result};
use crate::ids::{FileId, UserId};

/// Sends a file to the trash, as the service itself does it. Its bytes stay.
///
/// # Errors
/// [`Error::NotFound`], also when it is in the trash already.
pub async fn soft_delete(context: &Context, owner: UserId, id: FileId) -> Result<()> {
    send(context, owner, id, None, &Origin::default()).await
}

/// Sends a file to the trash. Its bytes stay.
///
/// # Errors
/// [`Error::NotFound`], also when it is in the trash already.
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
        let event = Event {
            actor,
            action: "file.trash",
            target_type: "file",
            target_id: id.to_string(),
            origin,
            detail: serde_json::json!({}),
        };
        audit::record(conn, event).await
    })
    .await
}

/// Deletes a file and all its versions for good. Objects that no other version refers to are marked for removal
/// in the same transaction; the reaper then takes their bytes out of every store.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn purge(context: &Context, owner: UserId, id: FileId, origin: &Origin) -> Result<()> {
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        // First, as every upload does: see the order of locks in [`crate::db`].
        users::lock(conn, owner).await?.ok_or(Error::NotFound(Noun::File))?;
        let Some((object_ids, bytes)) = files::purge(conn, id, owner).await? else {
            return Err(Error::NotFound(Noun::File));
        };
        objects::remove_unreferenced(conn, &object_ids).await?;
        users::book_bytes(conn, owner, -bytes).await?;
        let event = Event {
            actor: Some(owner),
            action: "file.purge",
            target_type: "file",
            target_id: id.to_string(),
            origin,
            detail: serde_json::json!({ "bytes": bytes }),
        };
        audit::record(conn, event).await
    })
    .await
}
