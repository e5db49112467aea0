//! Reading a file from whichever store has it: the nearest that is well first, the next one when that fails, also in the
//! middle of the bytes.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::{self, BoxStream, StreamExt};

use crate::context::Context;
use crate::db::enums::ReplicaState;
use crate::db::{files, replicas, unsigned};
use crate::encryption::Seal;
use crate::error::{Error, Noun, Result};
use crate::ids::{FileId, ObjectId, UserId};
use crate::store::{ByteRange, ObjectKey, Store, StoreError, StoreRole};
use crate::tiering::archive;
use crate::vault::{self, Reading, Wanted};

/// After this a client may try again when no store could be reached.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Bytes of a file on their way out.
pub type DownloadBody = BoxStream<'static, std::result::Result<Bytes, StoreError>>;

/// A version of a file that is to be read.
#[derive(Debug, Clone)]
pub struct Target {
    /// Name to save it under.
    pub filename: String,
    /// MIME type.
    pub content_type: String,
    /// Size in bytes.
    pub size: u64,
    /// SHA-256, hex; the entity tag.
    pub sha256: String,
    /// When the version was made.
    pub modified: DateTime<Utc>,
    file_id: FileId,
    object_id: ObjectId,
    asked_by: UserId,
    key: ObjectKey,
}

/// Finds what is to be read: the current version, or the one with this number.
///
/// # Errors
/// [`Error::NotFound`], also for other people's files and for the trash.
pub async fn find(context: &Context, owner: UserId, id: FileId, version: Option<i32>) -> Result<Target> {
    let mut conn = context.db.conn().await?;
    let (row, version) = files::version_object(&mut conn, id, Some(owner), version)
        .await?
        .ok_or(Error::NotFound(if version.is_some() { Noun::Version } else { Noun::File }))?;
    Ok(Target {
        filename: row.filename,
        content_type: version.content_type,
        size: unsigned(version.size.unwrap_or(0)),
        sha256: version.sha256.map(hex::encode).unwrap_or_default(),
        modified: version.created_at,
        file_id: id,
        object_id: version.object_id,
        asked_by: owner,
        key: parse_key(&version.key)?,
    })
}

fn parse_key(key: &str) -> Result<ObjectKey> {
    ObjectKey::parse(key).map_err(|error| Error::Internal(format!("object key in the database: {error}")))
}

/// Opens the bytes of `range` (none: all of them); the range must lie within the file.
///
/// # Errors
/// [`Error::Archived`] when all copies are; a restore was asked for then.
/// [`Error::StoreUnavailable`] when no store that holds them answers; [`Error::Internal`] when none holds them.
pub async fn open(context: &Context, target: &Target, range: Option<ByteRange>) -> Result<DownloadBody> {
    let (start, end) = match range {
        Some(range) => (range.first, range.last.map_or(target.size, |last| last.saturating_add(1))),
        None => (0, target.size),
    };
    if start >= end {
        return Ok(stream::empty().boxed());
    }
    let mut reader = Reader {
        context: context.clone(),
        object_id: target.object_id,
        asked_by: Some(target.asked_by),
        key: target.key.clone(),
        size: target.size,
        at: start,
        end,
        stores: VecDeque::new(),
        body: None,
        looked_up: 0,
    };
    let store = reader.connect().await?;
    note(context, target, store);
    Ok(stream::unfold(reader, Reader::next).boxed())
}

/// A link straight to a store, for a client that need not come through this service, and when it ends.
///
/// # Errors
/// As [`open`].
pub async fn presign(
    context: &Context,
    target: &Target,
    disposition: &str,
    expires: Duration,
) -> Result<String> {
    let copies = copies_of(context, target.object_id).await?;
    // A store gives out what it has: of an encrypted copy nothing that a client could use.
    let Some((store, _)) = copies.iter().find(|(_, seal)| seal.is_none()) else {
        if copies.is_empty() {
            return Err(Error::StoreUnavailable { retry_after: RETRY_AFTER });
        }
        return Err(Error::Conflict(
            "This file is stored encrypted, so there is no link straight to a store. Download it through this service."
                .to_owned(),
        ));
    };
    note(context, target, store.role());
    Ok(store.presign_get(&target.key, expires, Some(disposition), Some(&target.content_type)).await?)
}

/// Notes that a file is read from a store of this role.
fn note(context: &Context, target: &Target, role: StoreRole) {
    let afar = role != StoreRole::Local;
    context.accesses.note(target.file_id, target.object_id, context.clock.now(), afar);
}

/// The verified copies of an object, nearest first, each with how it is encrypted.
async fn copies_of(context: &Context, object: ObjectId) -> Result<Vec<(Store, Option<Seal>)>> {
    let mut conn = context.db.conn().await?;
    let mut rows = replicas::of_objects(&mut conn, &[object]).await?;
    rows.retain(|row| row.state == ReplicaState::Present);
    let stores = context.stores.nearest_first(rows.iter().map(|row| row.store.as_str()));
    // One that is down is still asked, after all others: it may be back.
    let stores = context.health.up_first(stores);
    let seal_in = |store: &Store| rows.iter().find(|row| row.store == store.name().as_str())?.seal();
    Ok(stores.into_iter().map(|store| (store.clone(), seal_in(store))).collect())
}

/// Reads from `at` to `end`, moving on to the next store where one fails.
struct Reader {
    context: Context,
    object_id: ObjectId,
    /// Who reads.
    asked_by: Option<UserId>,
    key: ObjectKey,
    size: u64,
    at: u64,
    end: u64,
    stores: VecDeque<(Store, Option<Seal>)>,
    body: Option<Reading>,
    looked_up: u8,
}

impl Reader {
    /// Opens the rest of the bytes at the nearest store that gives them. Looks the replicas up twice before it
    /// gives up: the local copy may have been freed between the look-up and the read.
    /// Answers the role of that store.
    async fn connect(&mut self) -> Result<StoreRole> {
        let mut last: Option<StoreError> = None;
        let mut archived: Option<Store> = None;
        loop {
            let Some((store, seal)) = self.stores.pop_front() else {
                if self.looked_up == 2 {
                    break;
                }
                self.looked_up += 1;
                self.stores = copies_of(&self.context, self.object_id).await?.into();
                if self.stores.is_empty() {
                    break;
                }
                continue;
            };
            let range = ByteRange::of_length(self.at, self.end - self.at);
            let wanted = Wanted { key: &self.key, size: self.size, seal: seal.as_ref() };
            match vault::read(&store, wanted, range).await {
                Ok(body) if body.total_size == self.size => {
                    self.body = Some(body);
                    self.context.health.answered(store.name().as_str(), self.context.clock.now(), None);
                    return Ok(store.role());
                }
                Err(error) if error.is_archived() => archived = archived.or(Some(store)),
                // Something else than this file, whatever its row says: no download may end early as if that were all.
                Ok(body) => {
                    tracing::warn!(store = %store.name(), object = %self.object_id, size = body.total_size, "a store holds a copy of another size, trying the next one");
                }
                Err(error) => {
                    tracing::warn!(store = %store.name(), object = %self.object_id, %error, "reading from a store failed, trying the next one");
                    self.context.health.failed(&error, self.context.clock.now());
                    last = Some(error);
                }
            }
        }
        if let Some(store) = archived {
            let restore =
                archive::want(&self.context, self.object_id, &self.key, &store, self.asked_by).await?;
            return Err(Error::Archived(Box::new(restore)));
        }
        match last {
            Some(error) if !error.is_outage() => Err(Error::Store(error)),
            _ => Err(Error::StoreUnavailable { retry_after: RETRY_AFTER }),
        }
    }

    async fn next(mut self) -> Option<(std::result::Result<Bytes, StoreError>, Self)> {
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
            tracing::warn!(object = %self.object_id, at = self.at, %error, "a download broke off, going on at another store");
            if self.connect().await.is_err() {
                return Some((Err(error), self));
            }
        }
    }
}
