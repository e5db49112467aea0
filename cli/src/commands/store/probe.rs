//! Tests one store with every operation that Nightferry needs. Writes a few bytes under a key that belongs to no user,
//! and deletes them again.

use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt as _;
use nightferry_core::checksum::Sha256;
use nightferry_core::store::{ObjectKey, PutOptions, Store, StoreError};
use serde::Serialize;
use uuid::Uuid;

/// One tested operation.
#[derive(Debug, Serialize)]
pub(super) struct StepResult {
    /// `bucket`, `write`, `read` or `delete`.
    pub(super) step: &'static str,
    pub(super) ok: bool,
    pub(super) millis: u64,
    pub(super) error: Option<String>,
}

/// Why a step failed.
#[derive(Debug)]
pub(super) enum Wrong {
    /// The store rejected the request or did not respond.
    Store(StoreError),
    /// The store returned other bytes than those written.
    OtherBytes,
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Runs the steps in order and stops at the first failure, which is returned too; a written object is deleted in any case.
pub(super) async fn probe(store: &Store) -> (Vec<StepResult>, Option<Wrong>) {
    let key = ObjectKey::new(Uuid::nil(), Uuid::now_v7(), "store-check");
    let content = Bytes::from(format!("nightferry store check {key}\n"));
    let mut steps = Vec::new();
    let mut wrong = timed(&mut steps, "bucket", store.check()).await;
    if wrong.is_some() {
        return (steps, wrong);
    }
    wrong = timed(&mut steps, "write", write(store, &key, &content)).await;
    if wrong.is_none() {
        wrong = timed(&mut steps, "read", read(store, &key, &content)).await;
    }
    // Also after a failed write: its response may have been lost after the object was stored.
    let mut last = Vec::new();
    let not_deleted = timed(&mut last, "delete", store.delete(&key)).await;
    if wrong.is_none() {
        steps.append(&mut last);
        wrong = not_deleted;
    }
    (steps, wrong)
}

async fn timed<T, E>(
    steps: &mut Vec<StepResult>,
    step: &'static str,
    act: impl Future<Output = Result<T, E>>,
) -> Option<Wrong>
where
    Wrong: From<E>,
{
    let started = Instant::now();
    let wrong = act.await.err().map(Wrong::from);
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let error = wrong.as_ref().map(|wrong| match wrong {
        Wrong::Store(error) => error.to_string(),
        Wrong::OtherBytes => "the content read differs from the content written".to_owned(),
    });
    steps.push(StepResult { step, ok: wrong.is_none(), millis, error });
    wrong
}

async fn write(store: &Store, key: &ObjectKey, content: &Bytes) -> Result<(), StoreError> {
    let options = PutOptions { sha256: Some(Sha256::of(content)), ..PutOptions::default() };
    store.put(key, content.clone().into(), &options).await.map(|_| ())
}

async fn read(store: &Store, key: &ObjectKey, content: &Bytes) -> Result<(), Wrong> {
    let mut body = store.get(key, None).await?.body;
    let mut read = Vec::with_capacity(content.len());
    while let Some(chunk) = body.next().await {
        read.extend_from_slice(&chunk?);
        if read.len() > content.len() {
            break;
        }
    }
    if read == *content { Ok(()) } else { Err(Wrong::OtherBytes) }
}
