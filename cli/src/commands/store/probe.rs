//! Tests one store with every operation that Nightferry needs. Writes a few bytes under a key that belongs to no user,
//! and deletes them again.

use std::time::Instant;

use bytes::Bytes;
use futures_util::StreamExt as _;
use nightferry_core::checksum::Sha256;
use nightferry_core::context::Context;
use nightferry_core::object::identity;
use nightferry_core::store::{ObjectKey, PutOptions, Store, StoreError};
use nightferry_core::stores::Identity;
use serde::Serialize;
use uuid::Uuid;

/// One tested operation.
#[derive(Debug, Serialize)]
pub(super) struct StepResult {
    /// `bucket`, `write`, `read`, `delete` or `identity`.
    pub(super) step: &'static str,
    pub(super) ok: bool,
    pub(super) millis: u64,
    pub(super) error: Option<String>,
}

impl StepResult {
    fn new(step: &'static str, started: Instant, wrong: Option<&Wrong>) -> Self {
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Self { step, ok: wrong.is_none(), millis, error: wrong.map(Wrong::text) }
    }
}

/// Why a step failed.
#[derive(Debug)]
pub(super) enum Wrong {
    /// The store rejected the request or did not respond.
    Store(StoreError),
    /// The store returned other bytes than those written.
    OtherBytes,
    /// The store may not be the one that the database knows.
    Identity(Identity),
}

impl Wrong {
    fn text(&self) -> String {
        match self {
            Self::Store(error) => error.to_string(),
            Self::OtherBytes => "the content read differs from the content written".to_owned(),
            Self::Identity(identity) => identity.reason().unwrap_or_default(),
        }
    }
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
    steps.push(StepResult::new(step, started, wrong.as_ref()));
    wrong
}

/// Compares the identity of the store with the recorded one. Without the database, there is no result and no step.
pub(super) async fn identify(
    context: &Context,
    store: &Store,
    steps: &mut Vec<StepResult>,
) -> (Identity, Option<Wrong>) {
    let started = Instant::now();
    let identity = identity::check(context, store).await;
    let wrong = identity.is_in_doubt().then(|| Wrong::Identity(identity.clone()));
    if identity.is_proven() || wrong.is_some() {
        steps.push(StepResult::new("identity", started, wrong.as_ref()));
    }
    (identity, wrong)
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
