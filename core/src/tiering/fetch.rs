//! The way back: a copy of a file in the local store, asked for by somebody or by a read. Carried at once by an idle
//! worker, outside of any run; a file's home stays where it is.

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::context::Context;
use crate::db::audit::{self, Event, Origin};
use crate::db::enums::ReplicaState;
use crate::db::replicas::{self, Wish};
use crate::db::{files, signed};
use crate::error::{Error, Result};
use crate::ids::{FileId, ObjectId, UserId};

/// What became of the wish for a local copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// A worker will bring it, or is bringing it.
    Queued,
    /// It is there.
    Here,
    /// The one that was there is being freed at this moment: ask again.
    BeingFreed,
    /// No other store holds a verified copy to bring it from.
    NoSource,
}

/// Asks for a local copy of a file's current version, as the service itself does it: see [`request_as`].
///
/// # Errors
/// As [`request_as`].
pub async fn request(context: &Context, file: FileId, owner: Option<UserId>) -> Result<Fetch> {
    request_as(context, file, owner, &Origin::default()).await
}

/// Asks for a local copy of a file's current version.
///
/// # Errors
/// [`Error::NotFound`], also for what is in the trash, and for other people's files unless `owner` is none (an
/// administrator).
pub async fn request_as(
    context: &Context,
    file: FileId,
    owner: Option<UserId>,
    origin: &Origin,
) -> Result<Fetch> {
    let local = context.stores.local()?.name().as_str();
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        let fetch = queue(conn, local, file, owner).await?;
        let event = Event {
            actor: owner,
            action: "file.prefetch",
            target_type: "file",
            target_id: file.to_string(),
            origin,
            detail: serde_json::json!({ "queued": fetch == Fetch::Queued }),
        };
        audit::record(conn, event).await?;
        Ok(fetch)
    })
    .await
}

async fn queue(
    conn: &mut AsyncPgConnection,
    local: &str,
    file: FileId,
    owner: Option<UserId>,
) -> Result<Fetch> {
    let (row, object, _) = files::find(conn, file, owner).await?.ok_or(Error::NotFound("file"))?;
    if row.deleted_at.is_some() {
        return Err(Error::NotFound("file"));
    }
    let queued = replicas::queue_fetches(conn, local, Wish::Prefetch, &[object], None).await?;
    if !queued.is_empty() {
        return Ok(Fetch::Queued);
    }
    let found = replicas::of_objects(conn, &[object]).await?;
    Ok(match found.iter().find(|replica| replica.store == local).map(|replica| replica.state) {
        Some(ReplicaState::Present) => Fetch::Here,
        Some(ReplicaState::Queued | ReplicaState::Copying) => Fetch::Queued,
        Some(ReplicaState::Evicting) => Fetch::BeingFreed,
        None | Some(ReplicaState::Failed | ReplicaState::Lost) => Fetch::NoSource,
    })
}

/// Asks for local copies of what was read from afar. What would fill the local store by itself is left where it is.
///
/// # Errors
/// Whatever the database meets.
pub(crate) async fn after_reads(context: &Context, objects: &[ObjectId]) -> Result<()> {
    let local = context.stores.local()?.name().as_str();
    let largest = context.config.tiering.watermarks().map(|(high, _)| signed(high));
    let mut conn = context.db.conn().await?;
    let queued = replicas::queue_fetches(&mut conn, local, Wish::CacheOnRead, objects, largest).await?;
    if !queued.is_empty() {
        tracing::info!(count = queued.len(), "files that were read from afar come back to the local store");
    }
    Ok(())
}
