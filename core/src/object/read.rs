//! Reads an object from any store that has it: the nearest healthy store first, and the next one if that fails, even in
//! the middle of the transfer.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};

use super::adopt::{self, Effort};
use super::crypto::{self, ObjectRef, PlainObject};
use super::restore;
use crate::context::Context;
use crate::db::enums::ReplicaState;
use crate::db::replicas;
use crate::encryption::EncryptionEnvelope;
use crate::error::{Error, Result};
use crate::ids::{ObjectId, UserId};
use crate::store::{ByteRange, ObjectKey, Store, StoreError, StoreRole, Verdict};

/// The `Retry-After` if no store is reachable.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Plaintext bytes of an object.
pub type Body = BoxStream<'static, Result<Bytes, StoreError>>;

/// An object to read.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    pub(crate) object_id: ObjectId,
    /// Key in every store.
    pub(crate) key: ObjectKey,
    /// Size of the plaintext.
    pub(crate) size: u64,
    /// The reading account.
    pub(crate) requested_by: Option<UserId>,
}

/// Opens the bytes of `range` (`None`: all), which must lie within the object. Returns them with the role of the store
/// that they come from, or `None` if there is nothing to read.
///
/// # Errors
/// [`Error::Archived`] if all copies are archived; a restore has then been requested. [`Error::StoreUnavailable`] if no
/// store that holds a copy is reachable.
pub(crate) async fn open(
    context: &Context,
    source: &Source,
    range: Option<ByteRange>,
) -> Result<(Body, Option<StoreRole>)> {
    let (start, end) = match range {
        Some(range) => (range.first, range.last.map_or(source.size, |last| last.saturating_add(1))),
        None => (0, source.size),
    };
    if start >= end {
        return Ok((stream::empty().boxed(), None));
    }
    let mut reader = Reader {
        context: context.clone(),
        source: source.clone(),
        at: start,
        end,
        stores: VecDeque::new(),
        body: None,
        looked_up: 0,
        has_searched: false,
    };
    let role = reader.connect().await?;
    Ok((stream::unfold(reader, Reader::next).boxed(), Some(role)))
}

/// A presigned URL of a store that responds with these headers, and the role of that store.
///
/// # Errors
/// [`Error::StoreUnavailable`]; [`Error::Conflict`] if every copy is encrypted.
pub(crate) async fn presign(
    context: &Context,
    source: &Source,
    disposition: &str,
    content_type: &str,
    expires: Duration,
) -> Result<(String, StoreRole)> {
    let copies = copies_of(context, source.object_id).await?;
    // A store returns what it has: for an encrypted copy, unusable ciphertext.
    let Some((store, _)) = copies.iter().find(|(_, envelope)| envelope.is_none()) else {
        if copies.is_empty() {
            return Err(Error::StoreUnavailable { retry_after: RETRY_AFTER });
        }
        return Err(Error::Conflict(
            "This file is stored encrypted, so there is no presigned URL. Download it through this \
                service."
                .to_owned(),
        ));
    };
    let url = store.presign_get(&source.key, expires, Some(disposition), Some(content_type)).await?;
    Ok((url, store.role()))
}

/// The verified copies of an object, nearest first, each with its encryption envelope. Suspect copies come last: they may
/// be there again.
async fn copies_of(context: &Context, object: ObjectId) -> Result<Vec<(Store, Option<EncryptionEnvelope>)>> {
    let mut rows = replicas::of_objects(&mut *context.db.conn().await?, &[object]).await?;
    rows.retain(|row| row.state == ReplicaState::Present || row.is_suspect());
    let in_order = |suspect: bool| {
        let names = rows.iter().filter(|row| row.is_suspect() == suspect).map(|row| row.store.as_str());
        // Stores that are down are still tried, after all others: they may have recovered.
        context.stores.health().up_first(context.stores.nearest_first(names))
    };
    let stores = [in_order(false), in_order(true)].concat();
    let envelope_in =
        |store: &Store| rows.iter().find(|row| row.store == store.name().as_str())?.encryption();
    Ok(stores.into_iter().map(|store| (store.clone(), envelope_in(store))).collect())
}

/// Reads from `at` to `end`, continuing with the next store after a failure.
struct Reader {
    context: Context,
    source: Source,
    at: u64,
    end: u64,
    stores: VecDeque<(Store, Option<EncryptionEnvelope>)>,
    body: Option<PlainObject>,
    looked_up: u8,
    /// Whether other stores have been asked for a copy that the database does not know.
    has_searched: bool,
}

impl Reader {
    /// Opens the remaining bytes at the nearest store that returns them. Looks up the replicas twice before it fails,
    /// because the local copy may have been evicted between the lookup and the read. Returns the role of the store.
    async fn connect(&mut self) -> Result<StoreRole> {
        let mut last: Option<StoreError> = None;
        let mut archived: Option<Store> = None;
        let mut missing: Vec<String> = Vec::new();
        loop {
            let Some((store, envelope)) = self.stores.pop_front() else {
                if self.looked_up < 2 {
                    self.looked_up += 1;
                    self.stores = copies_of(&self.context, self.source.object_id).await?.into();
                }
                let is_known = archived.is_some() || (last.is_some() && missing.is_empty());
                if self.stores.is_empty() && (is_known || !self.find_another(&missing).await) {
                    break;
                }
                continue;
            };
            let range = ByteRange::of_length(self.at, self.end - self.at);
            let object =
                ObjectRef { key: &self.source.key, size: self.source.size, envelope: envelope.as_ref() };
            match crypto::read(&store, object, range).await {
                Ok(body) if body.total_size == self.source.size => {
                    self.body = Some(body);
                    self.context.stores.health().answered(
                        store.name().as_str(),
                        self.context.clock.now(),
                        None,
                    );
                    return Ok(store.role());
                }
                Err(error) if error.is_archived() => archived = archived.or(Some(store)),
                // Skipped regardless of its row: a download must not end early as if it were complete.
                Ok(body) => {
                    tracing::warn!(store = %store.name(), object = %self.source.object_id, size = body.total_size, "a \
                        store has a copy with a wrong size; trying the next store");
                    missing.push(store.name().to_string());
                }
                Err(error) => {
                    tracing::warn!(store = %store.name(), object = %self.source.object_id, %error, "reading \
                        from a store failed; trying the next store");
                    self.context.stores.health().failed(&error, self.context.clock.now());
                    if error.verdict() == Verdict::SourceMissing {
                        missing.push(store.name().to_string());
                    }
                    last = Some(error);
                }
            }
        }
        if let Some(store) = archived {
            let restore = restore::request(
                &self.context,
                self.source.object_id,
                &self.source.key,
                &store,
                self.source.requested_by,
            )
            .await?;
            return Err(Error::Archived(Box::new(restore.into())));
        }
        match last {
            Some(error) if !error.is_outage() => Err(Error::Store(error)),
            _ => Err(Error::StoreUnavailable { retry_after: RETRY_AFTER }),
        }
    }

    /// No known copy can be read: another store may have one that the database does not know, after a restored backup.
    /// Returns whether there is one now. Tried once.
    async fn find_another(&mut self, missing: &[String]) -> bool {
        if std::mem::replace(&mut self.has_searched, true) {
            return false;
        }
        let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
        let object = self.source.object_id;
        let searching = async {
            let adopted = adopt::adopt(&self.context, object, &missing, Effort::Quick).await?;
            let mut copies = copies_of(&self.context, object).await?;
            copies.retain(|(store, _)| adopted.stores.iter().any(|name| name == store.name().as_str()));
            Ok::<_, Error>(copies)
        };
        let found = Box::pin(searching).await;
        match found {
            Ok(copies) => self.stores = copies.into(),
            Err(error) => {
                tracing::warn!(%object, %error, "cannot look for copies that the database does not know");
            }
        }
        !self.stores.is_empty()
    }

    async fn next(mut self) -> Option<(Result<Bytes, StoreError>, Self)> {
        loop {
            if self.at >= self.end {
                return None;
            }
            let error = match self.body.as_mut()?.body.next().await {
                Some(Ok(chunk)) => {
                    self.at += u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                    return Some((Ok(chunk), self));
                }
                Some(Err(error)) => error,
                None => return None,
            };
            self.body = None;
            tracing::warn!(object = %self.source.object_id, at = self.at, %error, "a download was \
                interrupted; continuing from another store");
            if self.connect().await.is_err() {
                return Some((Err(error), self));
            }
        }
    }
}
