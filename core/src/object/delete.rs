//! Deletes many objects of a store: with one request where the store takes several keys, otherwise concurrently one by
//! one. The caller has made sure of every one of them that it may be deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};

use crate::store::{BatchDeletion, DELETE_LIMIT, ObjectKey, Store, StoreError};

/// Deletes objects; missing ones are not an error. If the store does not take several keys, up to `together` requests are
/// sent at once. Returns those that may still be there, with the reason.
pub async fn delete_all(
    store: &Store,
    keys: &[ObjectKey],
    together: usize,
) -> BTreeMap<ObjectKey, Arc<StoreError>> {
    let mut failed = BTreeMap::new();
    for batch in keys.chunks(DELETE_LIMIT) {
        failed.extend(delete_some(store, batch, together).await);
    }
    failed
}

/// Logs that a store does not take several keys.
pub fn log_refusal(store: &Store, error: &StoreError) {
    tracing::info!(target: "nightferry::sync", store = %store.name(), %error, "the store refuses to delete several \
        objects with one request: they are deleted one by one until the next start");
}

async fn delete_some(
    store: &Store,
    keys: &[ObjectKey],
    together: usize,
) -> BTreeMap<ObjectKey, Arc<StoreError>> {
    if keys.len() > 1 {
        match store.delete_batch(keys).await {
            Ok(BatchDeletion::Done(failed)) => {
                return failed.into_iter().map(|(key, error)| (key, Arc::new(error))).collect();
            }
            Ok(BatchDeletion::Refused(Some(error))) => log_refusal(store, &error),
            Ok(BatchDeletion::Refused(None)) => {}
            Err(error) => {
                let error = Arc::new(error);
                return keys.iter().map(|key| (key.clone(), Arc::clone(&error))).collect();
            }
        }
    }
    let deleted: Vec<(ObjectKey, Result<(), StoreError>)> = stream::iter(keys.to_vec())
        .map(|key| async move {
            let deleted = store.delete(&key).await;
            (key, deleted)
        })
        .buffer_unordered(together.max(1))
        .collect()
        .await;
    deleted.into_iter().filter_map(|(key, deleted)| Some((key, Arc::new(deleted.err()?)))).collect()
}
