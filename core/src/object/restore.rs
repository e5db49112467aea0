//! Restore requests: an archived copy can be read only after its store has restored it. A request is a row; a worker
//! sends it to the store (`tiering::archive`).

use super::verify::QUICK_RETRY;
use crate::context::Context;
use crate::db::enums::RestoreState;
use crate::db::listen;
use crate::db::restores::{self, Restore};
use crate::error::Result;
use crate::ids::{ObjectId, UserId};
use crate::retry;
use crate::store::{ObjectHead, ObjectKey, Store, StoreError, is_archive_class};

/// Requests a restore of a copy that its store refused to return because it is archived. Concurrent requests result in
/// one request to the store.
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
pub(crate) async fn head(store: &Store, key: &ObjectKey) -> Result<Option<ObjectHead>, StoreError> {
    retry::retry(&QUICK_RETRY, || store.head(key), StoreError::retry).await
}
