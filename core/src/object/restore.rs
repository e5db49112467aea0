//! Restore requests: an archived copy can be read only after its store has restored it. A request is a row; a worker
//! sends it to the store (`tiering::archive`).

use super::verify::QUICK_RETRY;
use crate::context::Context;
use crate::db::enums::RestoreState;
use crate::db::listen;
use crate::db::restores::{self, Restore};
use crate::error::{PendingRestore, Result};
use crate::ids::{ObjectId, UserId};
use crate::retry;
use crate::store::{ObjectHead, ObjectKey, Store, StoreError, is_archive_class};

/// Requests a restore of a copy that its store refused to return because it is archived. Concurrent requests result in
/// one request to the store.
///
/// # Errors
/// Any database error.
pub(crate) async fn request(
    context: &Context,
    object: ObjectId,
    key: &ObjectKey,
    store: &Store,
    by: Option<UserId>,
) -> Result<Restore> {
    let class = match head(store, key).await {
        Ok(Some(head)) => head.storage_class.filter(|class| is_archive_class(class)),
        Ok(None) | Err(_) => None,
    };
    let mut conn = context.db.conn().await?;
    // A store that does not report the class (an archive tier of Intelligent-Tiering) behaves like one that does.
    let class = class.unwrap_or_else(|| "GLACIER".to_owned());
    restores::record_class(&mut conn, object, store.name().as_str(), Some(&class)).await?;
    let restore = restores::want(&mut conn, object, store.name().as_str(), by).await?;
    if restore.state == RestoreState::Wanted {
        listen::notify(&mut conn, listen::RUNS, "restore").await?;
    }
    Ok(restore)
}

/// HEAD request for an object, with retries.
pub(crate) async fn head(
    store: &Store,
    key: &ObjectKey,
) -> std::result::Result<Option<ObjectHead>, StoreError> {
    retry::retry(&QUICK_RETRY, || store.head(key), StoreError::retry).await
}

impl From<Restore> for PendingRestore {
    fn from(restore: Restore) -> Self {
        let goes_on = matches!(restore.state, RestoreState::Wanted | RestoreState::Restoring);
        Self {
            id: restore.id,
            store: restore.store,
            state: restore.state.as_str(),
            requested_at: restore.requested_at,
            ready_at: restore.ready_at,
            expires_at: restore.expires_at,
            next_check_at: goes_on.then_some(restore.next_look_at),
        }
    }
}
