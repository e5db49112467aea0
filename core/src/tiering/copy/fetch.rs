//! Prefetching: a copy of a file in the local store, requested by a user or by a read. Made immediately by an idle
//! worker, outside of any run; the primary location of the file does not change.

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::enums::ReplicaState;
use crate::db::replicas::{self, FetchReason};
use crate::db::{files, signed};
use crate::error::{Error, Noun, Result};
use crate::ids::{FileId, ObjectId, UserId};
use crate::object::store_choice;
use crate::store::StoreRole;

/// The result of a prefetch request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetch {
    /// A worker will make it, or is making it.
    Queued,
    /// The copy exists.
    Present,
    /// The existing copy is being evicted now: retry later.
    BeingEvicted,
    /// No other store has a verified copy.
    NoSource,
}

/// Requests a local copy of a file's current version.
///
/// # Errors
/// [`Error::NotFound`], also for files in the trash, and for files of other users unless `owner` is `None` (an
/// administrator).
pub async fn request(
    context: &Context,
    file: FileId,
    owner: Option<UserId>,
    origin: &Origin,
) -> Result<Fetch> {
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        let fetch = queue(context, conn, file, owner).await?;
        let detail = serde_json::json!({ "queued": fetch == Fetch::Queued });
        audit::record(conn, origin, owner, "file.prefetch", ("file", file), detail).await?;
        Ok(fetch)
    })
    .await
}

async fn queue(
    context: &Context,
    conn: &mut AsyncPgConnection,
    file: FileId,
    owner: Option<UserId>,
) -> Result<Fetch> {
    let (row, object, _) = files::find(conn, file, owner).await?.ok_or(Error::NotFound(Noun::File))?;
    if row.deleted_at.is_some() {
        return Err(Error::NotFound(Noun::File));
    }
    let locals = context.stores.names_with(StoreRole::Local);
    let local = store_choice::local(context, conn).await?.name().as_str();
    let queued =
        replicas::queue_fetches(conn, local, &locals, FetchReason::Prefetch, &[object], None).await?;
    if !queued.is_empty() {
        return Ok(Fetch::Queued);
    }
    let found = replicas::of_objects(conn, &[object]).await?;
    // Of several local copies, the one in the best state.
    let here = found.iter().filter(|replica| locals.contains(&replica.store.as_str()));
    let ranked = here.map(|replica| match replica.state {
        ReplicaState::Present => (3, Fetch::Present),
        ReplicaState::Queued | ReplicaState::Copying => (2, Fetch::Queued),
        ReplicaState::Evicting => (1, Fetch::BeingEvicted),
        ReplicaState::Failed | ReplicaState::Lost => (0, Fetch::NoSource),
    });
    Ok(ranked.max_by_key(|(rank, _)| *rank).map_or(Fetch::NoSource, |(_, fetch)| fetch))
}

/// Requests local copies of files read from the cloud. Files that would fill the local store by themselves are
/// excluded.
pub(crate) async fn after_reads(context: &Context, objects: &[ObjectId]) -> Result<()> {
    let locals = context.stores.names_with(StoreRole::Local);
    let mut conn = context.db.conn().await?;
    let Some(local) = store_choice::locals(context, &mut conn).await?.into_iter().next() else {
        return Ok(());
    };
    let local = local.name().as_str();
    let capacity = context.config.capacity_of(local);
    let largest =
        capacity.and_then(|all| context.config.tiering.watermarks(all)).map(|(high, _)| signed(high));
    let queued =
        replicas::queue_fetches(&mut conn, local, &locals, FetchReason::CacheOnRead, objects, largest)
            .await?;
    if !queued.is_empty() {
        tracing::info!(count = queued.len(), "prefetching files that were read from the cloud");
    }
    Ok(())
}
