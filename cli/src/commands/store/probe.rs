//! Tests one store with every operation that Nightferry needs. Writes a few bytes under a key that belongs to no user,
//! and deletes them again.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use nightferry_core::checksum::Sha256;
use nightferry_core::store::{ObjectKey, PutOptions, Store, StoreError};
use uuid::Uuid;

/// One tested operation.
#[derive(Debug)]
pub(super) struct Step {
    /// `bucket`, `write`, `read` or `delete`.
    pub(super) name: &'static str,
    /// How long the operation took.
    pub(super) took: Duration,
    /// What went wrong.
    pub(super) error: Option<Wrong>,
}

/// Why a step failed.
#[derive(Debug)]
pub(super) enum Wrong {
    /// The store rejected the request or did not respond.
    Store(StoreError),
    /// The store returned other bytes than those written.
    OtherBytes,
}

/// Runs the steps in order and stops at the first failure; a written object is deleted in any case.
pub(super) async fn probe(store: &Store) -> Vec<Step> {
    let key = ObjectKey::new(Uuid::nil(), Uuid::now_v7(), "store-check");
    let content = Bytes::from(format!("nightferry store check {key}\n"));
    let mut steps = vec![timed("bucket", store.check()).await];
    if failed(&steps) {
        return steps;
    }
    steps.push(timed("write", write(store, &key, &content)).await);
    if !failed(&steps) {
        let started = Instant::now();
        let error = read(store, &key, &content).await.err();
        steps.push(Step { name: "read", took: started.elapsed(), error });
    }
    // Also after a failed write: its response may have been lost after the object was stored.
    let delete = timed("delete", store.delete(&key)).await;
    if !failed(&steps) {
        steps.push(delete);
    }
    steps
}

fn failed(steps: &[Step]) -> bool {
    steps.iter().any(|step| step.error.is_some())
}

async fn timed<T>(name: &'static str, act: impl Future<Output = Result<T, StoreError>>) -> Step {
    let started = Instant::now();
    let error = act.await.err().map(Wrong::Store);
    Step { name, took: started.elapsed(), error }
}

async fn write(store: &Store, key: &ObjectKey, content: &Bytes) -> Result<(), StoreError> {
    let options = PutOptions { sha256: Some(Sha256::of(content)), ..PutOptions::default() };
    store.put(key, content.clone().into(), &options).await.map(|_| ())
}

async fn read(store: &Store, key: &ObjectKey, content: &Bytes) -> Result<(), Wrong> {
    let mut body = store.get(key, None).await.map_err(Wrong::Store)?.body;
    let mut read = Vec::with_capacity(content.len());
    while let Some(chunk) = body.next().await {
        read.extend_from_slice(&chunk.map_err(Wrong::Store)?);
        if read.len() > content.len() {
            break;
        }
    }
    if read == *content { Ok(()) } else { Err(Wrong::OtherBytes) }
}
