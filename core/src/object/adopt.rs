//! Adoption: when the known copies of an object are missing, the other stores are asked for the same key. A restored
//! backup of the database does not know the copies that were made after it; an intact one becomes a verified copy again.

use diesel_async::AsyncConnection;

use super::identity;
use super::verify::{self, Expected, QUICK_RETRY};
use crate::context::Context;
use crate::db::enums::{ObjectState, ReplicaState};
use crate::db::objects::{self, Object};
use crate::db::replicas::{self, FoundCopy};
use crate::error::{Error, Result};
use crate::ids::ObjectId;
use crate::retry;
use crate::store::{ObjectKey, Store, StoreError, StoreRole, UploadId};

/// Maximum size of a copy that is read while a user waits.
const QUICKLY_READ: u64 = 64 * 1024 * 1024;

/// What may be done to prove a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// A HEAD request, or reading a small copy: for callers with a waiting user.
    Quick,
    /// Reading the copy, if the store returns no comparable checksum.
    Read,
}

/// The result of a search.
#[derive(Debug, Default)]
pub struct Adopted {
    /// The stores with intact copies that became `present`.
    pub stores: Vec<String>,
    /// The errors of stores that could not be searched.
    pub failed: Vec<StoreError>,
}

/// Searches all stores for copies of an object that are not known to be there, except those in `missing`, where a copy
/// was looked for and not found. Intact copies become `present`, and then those in `missing` become `lost`. A store that
/// fails, or may not be the recorded one, is skipped.
///
/// # Errors
/// Any database error.
pub async fn adopt(context: &Context, object: ObjectId, missing: &[&str], effort: Effort) -> Result<Adopted> {
    let mut adopted = Adopted::default();
    let (facts, rows) = {
        let mut conn = context.db.conn().await?;
        let Some(facts) = objects::find(&mut conn, object).await? else { return Ok(adopted) };
        (facts, replicas::of_objects(&mut conn, &[object]).await?)
    };
    if facts.state != ObjectState::Stored {
        return Ok(adopted);
    }
    let mut lost = Vec::new();
    for name in missing {
        if identity::is_proven_by_name(context, name).await {
            lost.push(*name);
        }
    }
    for store in context.stores.all() {
        let name = store.name().as_str();
        let row = rows.iter().find(|row| row.store == name);
        let is_open = row.is_none_or(|row| {
            matches!(row.state, ReplicaState::Queued | ReplicaState::Failed | ReplicaState::Lost)
        });
        if missing.contains(&name) || !is_open || !identity::is_proven(context, store).await {
            continue;
        }
        match adopt_in(context, store, &facts, &lost, effort).await {
            Ok(true) => adopted.stores.push(name.to_owned()),
            Ok(false) => {}
            Err(Error::Store(error)) => {
                tracing::warn!(target: "nightferry::sync", %object, store = name, %error, "cannot look for a copy \
                    that the database does not know");
                adopted.failed.push(error);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(adopted)
}

async fn adopt_in(
    context: &Context,
    store: &Store,
    facts: &Object,
    lost: &[&str],
    effort: Effort,
) -> Result<bool> {
    let (key, name) = (ObjectKey::parse(&facts.key)?, store.name().as_str());
    let (sha256, crc64nvme) = (facts.sha256.as_deref(), facts.crc64nvme.as_deref());
    let expected = Expected::recorded(facts.id, facts.size.unwrap_or(0), sha256, crc64nvme)?;
    let may_read = effort == Effort::Read || expected.size <= QUICKLY_READ;
    let found = verify::find_intact(store, &key, expected, may_read).await?;
    let Some(found) = found else { return Ok(false) };
    let copy = FoundCopy {
        object_id: facts.id,
        store: name,
        etag: &found.etag,
        storage_class: found.storage_class.as_deref(),
        envelope: found.envelope.as_ref(),
    };
    let (locals, clouds) =
        (context.stores.names_with(StoreRole::Local), context.stores.names_with(StoreRole::Cloud));
    let adopted = {
        let (copy, locals, clouds) = (&copy, &locals, &clouds);
        let mut conn = context.db.conn().await?;
        conn.transaction(async move |conn| {
            let adopted = replicas::adopt(conn, copy, lost, clouds).await?;
            if adopted.is_some() {
                replicas::mark_evictable(conn, locals, clouds, &[copy.object_id]).await?;
            }
            Ok::<_, Error>(adopted)
        })
        .await?
    };
    let Some(adopted) = adopted else { return Ok(false) };
    if adopted.is_new && !is_still_there(store, &key).await {
        // Deleted by another process between the request and the row. From now on the row protects it.
        let error = format!("the copy in store {name} was deleted while it was adopted");
        let mut conn = context.db.conn().await?;
        replicas::mark_lost(&mut conn, facts.id, name, &clouds, &error, None).await?;
        return Ok(false);
    }
    if let Some(upload) = adopted.upload_id
        && let Err(error) = store.abort_multipart(&key, &UploadId::new(upload)).await
    {
        tracing::debug!(store = name, %key, %error, "cannot abort an upload that is no longer required");
    }
    metrics::counter!("nightferry_copies_adopted_total", "store" => name.to_owned()).increment(1);
    tracing::warn!(target: "nightferry::sync", object = %facts.id, store = name, "adopted an intact copy that the \
        database did not list as verified");
    Ok(true)
}

/// Whether the copy is there. If that cannot be determined, it was there a moment ago.
async fn is_still_there(store: &Store, key: &ObjectKey) -> bool {
    !matches!(retry::retry(&QUICK_RETRY, || store.head(key), StoreError::retry).await, Ok(None))
}
