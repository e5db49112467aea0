//! Archived copies, which can be read only after their store has restored them. A reader requests a restore and gets
//! its state; the worker sends the request and polls the store until it is done. Nothing is restored without a request,
//! because it costs money.

use std::time::Duration;

use crate::context::Context;
use crate::db::enums::{ReplicaState, RestoreState};
use crate::db::restores::{self, Due, Restore};
use crate::db::{files, replicas};
use crate::error::{Error, Noun, Result};
use crate::ids::{FileId, UserId};
use crate::object::restore;
use crate::retry;
use crate::store::{
    ObjectHead, ObjectKey, RestoreAnswer, RestoreStatus, Store, StoreError, is_archive_class,
};

use crate::tiering::db_outage::retry_on_db_outage;

/// Restores processed at once.
const BATCH: i64 = 50;
/// How long a taken restore is reserved for its worker.
const BUSY: Duration = Duration::from_secs(120);
/// Number of failed attempts after which a restore fails permanently.
const MAX_ATTEMPTS: i32 = 10;

/// The result of a request to read a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreOutcome {
    /// A copy in this store is readable now.
    Readable(String),
    /// All copies are archived; one is being restored.
    Restoring(Restore),
    /// No verified copy remains, or none in a configured store.
    NoCopy,
}

/// Requests that a file's current version becomes readable, if it is not.
///
/// # Errors
/// [`Error::NotFound`], also for files of other users unless `owner` is `None` (an administrator); [`Error::Store`].
pub async fn request(
    context: &Context,
    file: FileId,
    owner: Option<UserId>,
    by: Option<UserId>,
) -> Result<RestoreOutcome> {
    let (object, key, rows) = {
        let mut conn = context.db.conn().await?;
        let (_, version) =
            files::version_object(&mut conn, file, owner, None).await?.ok_or(Error::NotFound(Noun::File))?;
        let rows = replicas::of_objects(&mut conn, &[version.object_id]).await?;
        (version.object_id, version.key, rows)
    };
    let key = ObjectKey::parse(&key)?;
    let present = rows.iter().filter(|row| row.state == ReplicaState::Present).map(|row| row.store.as_str());
    let mut archived = None;
    for store in context.stores.nearest_first(present) {
        match restore::head(store, &key).await? {
            Some(head) if is_archived(&head) => archived = archived.or(Some(store)),
            Some(_) => return Ok(RestoreOutcome::Readable(store.name().to_string())),
            None => {}
        }
    }
    match archived {
        Some(store) => {
            Ok(RestoreOutcome::Restoring(restore::request(context, object, &key, store, by).await?))
        }
        None => Ok(RestoreOutcome::NoCopy),
    }
}

/// Sends requested restores to the stores, and polls those in progress. Returns the number of processed ones. Cheap if
/// nothing is due: call it every second.
pub async fn pass(context: &Context) -> Result<usize> {
    let mut looked_after = 0;
    loop {
        let due = retry_on_db_outage(async || {
            restores::take_due(&mut *context.db.conn().await?, BATCH, BUSY).await
        })
        .await?;
        if due.is_empty() {
            return Ok(looked_after);
        }
        for restore in &due {
            advance(context, restore).await?;
            looked_after += 1;
        }
    }
}

/// The state of a restore after polling its store.
enum Seen {
    Restoring,
    Ready(Option<chrono::DateTime<chrono::Utc>>),
    /// The object is not in an archive class.
    Readable(Option<String>),
    /// Neither restored nor being restored.
    Nothing,
    Gone,
}

async fn advance(context: &Context, due: &Due) -> Result<()> {
    let tiering = &context.config.tiering;
    let (Some(store), Ok(key)) = (context.stores.get(&due.store), ObjectKey::parse(&due.key)) else {
        let error = format!("store {} is no longer configured", due.store);
        let mut conn = context.db.conn().await?;
        return restores::mark_failed(&mut conn, due.id, &error, true, Duration::ZERO).await;
    };
    let seen = look(context, store, &key, due.state).await;
    let mut conn = context.db.conn().await?;
    match seen {
        Ok(Seen::Restoring) => restores::mark_restoring(&mut conn, due.id, tiering.archive_poll).await,
        Ok(Seen::Ready(until)) => {
            tracing::info!(target: "nightferry::sync", object = %due.object_id, store = due.store, "an \
                archived copy has been restored");
            restores::mark_ready(&mut conn, due.id, until).await
        }
        Ok(Seen::Readable(class)) => {
            restores::record_class(&mut conn, due.object_id, &due.store, class.as_deref()).await?;
            restores::mark_ready(&mut conn, due.id, None).await
        }
        Ok(Seen::Nothing) => restores::mark_wanted(&mut conn, due.id).await,
        Ok(Seen::Gone) => {
            let error = format!("the copy in store {} is missing", due.store);
            restores::mark_failed(&mut conn, due.id, &error, true, Duration::ZERO).await
        }
        Err(error) => {
            let give_up = error.retry() == retry::Retry::Stop || due.attempts + 1 >= MAX_ATTEMPTS;
            let attempts = u32::try_from(due.attempts).unwrap_or(0);
            let pause = retry::delay(attempts, tiering.backoff_initial, tiering.backoff_cap);
            tracing::warn!(target: "nightferry::sync", object = %due.object_id, store = due.store, %error, give_up, "an archived copy could not be restored");
            restores::mark_failed(&mut conn, due.id, &error.to_string(), give_up, pause).await
        }
    }
}

async fn look(
    context: &Context,
    store: &Store,
    key: &ObjectKey,
    state: RestoreState,
) -> Result<Seen, StoreError> {
    let tiering = &context.config.tiering;
    if state == RestoreState::Wanted {
        match store.restore(key, tiering.archive_restore_days, tiering.archive_restore_tier.into()).await? {
            RestoreAnswer::Accepted | RestoreAnswer::InProgress => return Ok(Seen::Restoring),
            RestoreAnswer::Restored | RestoreAnswer::NotArchived => {}
        }
    }
    let Some(head) = restore::head(store, key).await? else { return Ok(Seen::Gone) };
    Ok(match head.restore {
        Some(RestoreStatus::InProgress) => Seen::Restoring,
        Some(RestoreStatus::Restored { until }) => Seen::Ready(until),
        None if is_archived(&head) => Seen::Nothing,
        None => Seen::Readable(head.storage_class),
    })
}

/// Whether an object cannot be read without a restore.
fn is_archived(head: &ObjectHead) -> bool {
    head.storage_class.as_deref().is_some_and(is_archive_class)
        && !matches!(head.restore, Some(RestoreStatus::Restored { .. }))
}
