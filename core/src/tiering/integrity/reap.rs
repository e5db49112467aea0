//! Cleanup after crashes and deletions: expired leases, abandoned uploads, unreferenced objects. Each step is
//! idempotent; failures are retried by the next pass.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use diesel_async::AsyncConnection;
use futures_util::future::join_all;
use futures_util::stream::{self, StreamExt};

use crate::audit;
use crate::context::Context;
use crate::db::enums::ReplicaState;
use crate::db::objects::{self, Removal, Removals};
use crate::db::{
    leases, personal_tokens, refresh_tokens, replicas, revoked_tokens, sessions, sign_in_guard, signing_keys,
    store_health, workers,
};
use crate::error::{Error, Result};
use crate::ids::ObjectId;
use crate::object::{delete, identity};
use crate::step::{self, Step};
use crate::store::{ObjectKey, Store, StoreError, UploadId, Verdict};

use crate::tiering::plan;

/// Maximum number of objects listed at once.
const BATCH: i64 = 100;
/// Rows of removed objects deleted in one statement.
const PURGED: i64 = 10_000;
/// Uploads abandoned in one statement.
const ABANDONED: i64 = 1_000;
/// Objects prepared and forgotten concurrently, within `tiering.concurrency`; so are deletions in a store that does not
/// take several keys at once.
const CONCURRENCY: usize = 8;
/// Time limit of a pass, because other jobs wait for it.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// Of which this is left for the rows of objects whose data is deleted.
const TIME_FOR_ROWS: Duration = Duration::from_secs(5);
/// How long it is known that an object was removed. What a store still has of it after that counts as unknown.
const REMOVED_KEPT: chrono::TimeDelta = chrono::TimeDelta::days(400);

/// The result of a pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reaped {
    /// Copies of dead workers, returned to the queue.
    pub leases: usize,
    /// Abandoned uploads.
    pub uploads: usize,
    /// Objects whose data and rows have been deleted.
    pub objects: usize,
}

/// Returns copies with expired leases to the queue. Cheap: call it every few seconds.
pub async fn leases(context: &Context) -> Result<usize> {
    replicas::reclaim_expired(&mut *context.db.conn().await?).await
}

/// One pass over abandoned uploads and unreferenced objects.
///
/// # Errors
/// Any database error. Errors of a store are logged, and its objects wait for the next pass; so do those in a store
/// that is down or may not be the recorded one, and those for which there was no time.
pub async fn pass(context: &Context) -> Result<Reaped> {
    let mut reaped = Reaped { leases: leases(context).await?, ..Reaped::default() };
    reaped.uploads = abandon_uploads(context).await?;
    let over = Instant::now() + TIME_LIMIT;
    let mut after = None;
    while Instant::now() < over {
        let unusable = unusable(context).await;
        let next = Removals::After(after);
        let removals = objects::removals(&mut *context.db.conn().await?, &unusable, next, BATCH).await?;
        let Some(last) = removals.last() else { break };
        after = Some(last.id);
        reaped.objects += remove_all(context, removals, over).await;
    }
    // Those that failed or took too long before: last, so that they do not delay the others.
    let mut tried = HashSet::new();
    while Instant::now() < over {
        let unusable = unusable(context).await;
        let removals = {
            let mut conn = context.db.conn().await?;
            let mut ids = objects::take_postponed(&mut conn, BATCH).await?;
            ids.retain(|id| tried.insert(*id));
            if ids.is_empty() {
                break;
            }
            objects::removals(&mut conn, &unusable, Removals::Of(&ids), BATCH).await?
        };
        reaped.objects += remove_all(context, removals, over).await;
    }
    Ok(reaped)
}

/// Abandons all uploads that have expired.
async fn abandon_uploads(context: &Context) -> Result<usize> {
    let mut conn = context.db.conn().await?;
    let now = context.clock.now();
    let mut all = 0;
    loop {
        let some = objects::abandon_expired(&mut conn, now, ABANDONED).await?;
        all += some;
        if i64::try_from(some).unwrap_or(i64::MAX) < ABANDONED {
            return Ok(all);
        }
    }
}

/// The stores from which nothing can be removed now: those that are down, and those that may not be the recorded ones.
async fn unusable(context: &Context) -> Vec<&str> {
    let mut unusable = Vec::new();
    for store in context.stores.all() {
        let name = store.name().as_str();
        if !context.stores.health().is_up(name) || !identity::is_proven(context, store).await {
            unusable.push(name);
        }
    }
    unusable
}

/// An object whose unfinished uploads are aborted, and whose data can be deleted.
struct Prepared {
    id: ObjectId,
    key: ObjectKey,
    /// The stores that may have data of it.
    stores: Vec<String>,
}

/// Removes objects until the pass is `over`: their data with few requests for each store, then their rows. Returns how
/// many are gone. Later passes try the others after all those that are new, unless there was no time to begin.
async fn remove_all(context: &Context, removals: Vec<Removal>, over: Instant) -> usize {
    let together = context.config.tiering.concurrency.clamp(1, CONCURRENCY);
    let begun: Vec<(ObjectId, Option<Prepared>)> = stream::iter(removals)
        .map(|removal| async move {
            let id = removal.id;
            if Instant::now() >= over {
                return None;
            }
            Some((id, by(over, id, prepare(context, removal)).await.flatten()))
        })
        .buffer_unordered(together)
        .filter_map(std::future::ready)
        .collect()
        .await;
    let mut left: BTreeSet<ObjectId> = begun.iter().map(|(id, _)| *id).collect();
    let prepared: Vec<Prepared> = begun.into_iter().filter_map(|(_, prepared)| prepared).collect();
    let failed = delete_data(context, &prepared, together, over).await;
    let emptied: Vec<Prepared> = prepared.into_iter().filter(|object| !failed.contains(&object.id)).collect();
    let gone: Vec<ObjectId> = stream::iter(emptied)
        .map(|object| by(over, object.id, forget(context, object)))
        .buffer_unordered(together)
        .filter_map(std::future::ready)
        .collect()
        .await;
    left.retain(|id| !gone.contains(id));
    if let Err(error) = postpone(context, left).await {
        tracing::warn!(%error, "cannot postpone the removal of objects");
    }
    gone.len()
}

/// Does `work` for an object until the pass is `over`. Returns `None` if it failed, or there was no time.
async fn by<T>(over: Instant, object: ObjectId, work: impl Future<Output = Result<T>>) -> Option<T> {
    match tokio::time::timeout_at(over.into(), work).await {
        Ok(Ok(done)) => Some(done),
        Ok(Err(error)) => {
            tracing::warn!(%object, %error, "cannot remove an object; the next pass retries");
            None
        }
        Err(_) => {
            tracing::debug!(%object, "out of time while removing objects; the next pass continues");
            None
        }
    }
}

async fn postpone(context: &Context, ids: BTreeSet<ObjectId>) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let ids: Vec<ObjectId> = ids.into_iter().collect();
    objects::postpone_removals(&mut *context.db.conn().await?, &ids).await
}

/// Adds up recorded changes of the counts of replicas. Cheap: call it every few seconds.
///
/// # Errors
/// Any database error; the counts remain exact, and the next call continues.
pub async fn counts(context: &Context) -> Result<()> {
    replicas::fold_counts(&mut *context.db.conn().await?).await?;
    Ok(())
}

/// Counts the replicas that are older than the counts, once after the upgrade. Returns whether this call did it.
///
/// # Errors
/// Any database error; until it succeeds, the replicas are counted whenever a count is needed.
pub async fn complete_counts(context: &Context) -> Result<bool> {
    let mut conn = context.db.conn().await?;
    if replicas::are_counts_complete(&mut conn).await? {
        return Ok(false);
    }
    conn.transaction(async move |conn| replicas::complete_counts(conn).await).await
}

/// Aborts the unfinished uploads of an object. Returns where its data may be, or `None` if it cannot be removed now.
async fn prepare(context: &Context, removal: Removal) -> Result<Option<Prepared>> {
    let key = ObjectKey::parse(&removal.key)?;
    let (replicas, multiparts) = {
        let mut conn = context.db.conn().await?;
        let replicas = replicas::of_objects(&mut conn, &[removal.id]).await?;
        (replicas, replicas::open_multiparts(&mut conn, removal.id).await?)
    };
    if replicas.iter().any(|row| matches!(row.state, ReplicaState::Copying | ReplicaState::Evicting)) {
        // Claimed since it was listed: wait until that worker has finished.
        return Ok(None);
    }
    for (name, upload) in &multiparts {
        store(context, name)?.abort_multipart(&key, &UploadId::new(upload.clone())).await?;
    }
    if let Some(upload) = &removal.upload_id {
        store(context, &removal.upload_store)?.abort_multipart(&key, &UploadId::new(upload.clone())).await?;
    }
    let acknowledged = replicas.iter().any(|row| row.store == removal.upload_store);
    let mut names: Vec<(&str, bool)> =
        replicas.iter().map(|row| (row.store.as_str(), row.state == ReplicaState::Present)).collect();
    // If it was acknowledged, and then evicted or moved, nothing is left there: that store may no longer exist.
    let settled = removal.was_stored && context.stores.get(&removal.upload_store).is_none();
    if !acknowledged && !settled {
        names.push((&removal.upload_store, false));
    }
    let mut stores = Vec::with_capacity(names.len());
    for (name, finished) in names {
        let store = store(context, name)?;
        if !finished {
            abort_strays(store, &key).await?;
        }
        stores.push(name.to_owned());
    }
    Ok(Some(Prepared { id: removal.id, key, stores }))
}

/// Deletes the data of objects, in all stores at the same time, and leaves time to delete the rows of those in stores
/// that respond. Returns the objects that may have data left.
async fn delete_data(
    context: &Context,
    objects: &[Prepared],
    together: usize,
    over: Instant,
) -> BTreeSet<ObjectId> {
    let mut of_stores: BTreeMap<String, Vec<(ObjectId, ObjectKey)>> = BTreeMap::new();
    for object in objects {
        for store in &object.stores {
            of_stores.entry(store.clone()).or_default().push((object.id, object.key.clone()));
        }
    }
    let over = over.checked_sub(TIME_FOR_ROWS).unwrap_or(over);
    let deletions =
        of_stores.into_iter().map(|(name, objects)| delete_in(context, name, objects, together, over));
    join_all(deletions).await.into_iter().flatten().collect()
}

/// Deletes the data of objects in one store. Returns the objects that may have data left there.
async fn delete_in(
    context: &Context,
    name: String,
    objects: Vec<(ObjectId, ObjectKey)>,
    together: usize,
    over: Instant,
) -> Vec<ObjectId> {
    let (ids, keys): (Vec<ObjectId>, Vec<ObjectKey>) = objects.into_iter().unzip();
    let Some(store) = context.stores.get(&name) else { return ids };
    let deletion = async {
        for key in &keys {
            step::reached(Step::RemovalBegun, key.as_str()).await;
        }
        delete::delete_all(store, &keys, together).await
    };
    let Ok(failed) = tokio::time::timeout_at(over.into(), deletion).await else {
        tracing::debug!(store = name, "out of time while removing objects; the next pass continues");
        return ids;
    };
    let mut left = Vec::new();
    for (id, key) in ids.into_iter().zip(&keys) {
        if let Some(error) = failed.get(key) {
            tracing::warn!(object = %id, store = name, %error, "cannot remove an object; the next pass retries");
            left.push(id);
        }
    }
    left
}

/// Deletes the rows of an object whose data is deleted. Returns its id.
async fn forget(context: &Context, object: Prepared) -> Result<ObjectId> {
    step::reached(Step::RemovalDeleted, object.key.as_str()).await;
    let id = object.id;
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| objects::delete(conn, id).await).await?;
    Ok(id)
}

/// Aborts multipart uploads of a key without a row: their creator died before recording them.
async fn abort_strays(store: &Store, key: &ObjectKey) -> Result<(), StoreError> {
    for stray in strays(store, key).await? {
        tracing::info!(store = %store.name(), key = %key, upload = %stray, "aborted an unknown upload");
        store.abort_multipart(key, &stray).await?;
    }
    Ok(())
}

/// The unfinished multipart uploads of a key. A store whose access key may not list uploads needs a lifecycle rule for
/// them.
pub(in crate::tiering) async fn strays(store: &Store, key: &ObjectKey) -> Result<Vec<UploadId>, StoreError> {
    let listed = match store.list_multipart_uploads(key.as_str()).await {
        Err(error) if error.verdict() == Verdict::Permanent => {
            tracing::debug!(store = %store.name(), key = %key, %error, "cannot list unfinished uploads");
            return Ok(Vec::new());
        }
        listed => listed?,
    };
    let of_key = listed.into_iter().filter(|stray| stray.key == key.as_str());
    Ok(of_key.map(|stray| stray.upload_id).collect())
}

fn store<'c>(context: &'c Context, name: &str) -> Result<&'c Store> {
    context
        .stores
        .get(name)
        .ok_or_else(|| Error::Internal(format!("store {name} has an object but is no longer configured")))
}

/// Deletes expired rows: expired tokens, failed sign-ins, workers without a heartbeat for a day, and audit events past
/// their retention.
pub async fn expired_rows(context: &Context) -> Result<()> {
    let mut conn = context.db.conn().await?;
    let now = context.clock.now();
    revoked_tokens::purge(&mut conn, now).await?;
    refresh_tokens::purge(&mut conn, now).await?;
    sessions::purge(&mut conn, now).await?;
    personal_tokens::purge(&mut conn, now - chrono::Duration::days(30)).await?;
    signing_keys::purge(&mut conn, now - chrono::Duration::days(1)).await?;
    workers::purge(&mut conn, now - chrono::Duration::days(1)).await?;
    store_health::purge(&mut conn, now - chrono::Duration::hours(1)).await?;
    leases::purge(&mut conn).await?;
    while objects::purge_removed(&mut conn, now - REMOVED_KEPT, PURGED).await? > 0 {}
    plan::purge(&mut conn).await?;
    sign_in_guard::purge(&mut conn, now).await?;
    drop(conn);
    audit::reap(context).await?;
    Ok(())
}
