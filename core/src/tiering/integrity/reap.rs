//! Cleanup after crashes and deletions: expired leases, abandoned uploads, unreferenced objects. Each step is
//! idempotent; failures are retried by the next pass.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use diesel_async::AsyncConnection;
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
use crate::object::identity;
use crate::step::{self, Step};
use crate::store::{ObjectKey, Store, StoreError, UploadId, Verdict};

use crate::tiering::plan;

/// Maximum number of objects listed at once.
const BATCH: i64 = 100;
/// Rows of removed objects deleted in one statement.
const PURGED: i64 = 10_000;
/// Uploads abandoned in one statement.
const ABANDONED: i64 = 1_000;
/// Objects removed concurrently, within `tiering.concurrency`.
const CONCURRENCY: usize = 8;
/// Time limit of a pass, because other jobs wait for it.
const TIME_LIMIT: Duration = Duration::from_secs(20);
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

/// Removes objects, some at a time. Returns how many are gone.
async fn remove_all(context: &Context, removals: Vec<Removal>, over: Instant) -> usize {
    let together = context.config.tiering.concurrency.clamp(1, CONCURRENCY);
    let removed = stream::iter(removals)
        .map(|removal| remove_by(context, removal, over))
        .buffer_unordered(together)
        .filter(|removed| std::future::ready(*removed));
    removed.count().await
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

/// Removes an object unless the pass is `over`. Returns whether it is gone. Otherwise the next passes try it after all
/// others; unless there was no time to begin.
async fn remove_by(context: &Context, removal: Removal, over: Instant) -> bool {
    if Instant::now() >= over {
        return false;
    }
    match tokio::time::timeout_at(over.into(), remove(context, &removal)).await {
        Ok(Ok(true)) => return true,
        Ok(Ok(false)) => {}
        Ok(Err(error)) => {
            tracing::warn!(object = %removal.id, %error, "cannot remove an object; the next pass retries");
        }
        Err(_) => {
            tracing::debug!(object = %removal.id, "out of time while removing objects; the next pass continues");
        }
    }
    if let Err(error) = postpone(context, removal.id).await {
        tracing::warn!(object = %removal.id, %error, "cannot postpone the removal of an object");
    }
    false
}

async fn postpone(context: &Context, id: ObjectId) -> Result<()> {
    objects::postpone_removal(&mut *context.db.conn().await?, id).await
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

/// Deletes the data wherever it may be, then the rows. Returns whether that was possible now.
async fn remove(context: &Context, removal: &Removal) -> Result<bool> {
    let key = ObjectKey::parse(&removal.key)?;
    let (replicas, multiparts) = {
        let mut conn = context.db.conn().await?;
        let replicas = replicas::of_objects(&mut conn, &[removal.id]).await?;
        (replicas, replicas::open_multiparts(&mut conn, removal.id).await?)
    };
    if replicas.iter().any(|row| matches!(row.state, ReplicaState::Copying | ReplicaState::Evicting)) {
        // Claimed since it was listed: wait until that worker has finished.
        return Ok(false);
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
    for (name, finished) in names {
        let store = store(context, name)?;
        if !finished {
            abort_strays(store, &key).await?;
        }
        step::reached(Step::RemovalBegun, key.as_str()).await;
        store.delete(&key).await?;
    }
    step::reached(Step::RemovalDeleted, key.as_str()).await;
    let id = removal.id;
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| objects::delete(conn, id).await).await?;
    Ok(true)
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
