//! Sends the bytes of an object to a local store.
//!
//! S3 needs the exact length of each part before its first byte. While the request is known to hold at least that many
//! more bytes, a part can be passed through as it arrives, followed by its checksum; so can the end of a request of
//! known length. Bytes of unknown length are buffered in a pool that all uploads share. While that pool has free
//! memory, all parts are buffered: a buffered part can be sent again after a failure, and costs the store less, because
//! it does not have to parse a trailing checksum.

use std::time::Instant;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::memory::{MIN_PART_SIZE, Room, UploadMemory, busy};
use super::receiver::{Incoming, Receiver};
use crate::checksum::ObjectDigest;
use crate::config::MEBIBYTE;
use crate::context::Context;
use crate::db::enums::ObjectState;
use crate::db::objects::{self, NewUpload};
use crate::error::{Error, Result};
use crate::ids::{ObjectId, UserId};
use crate::object::verify::{self, Form};
use crate::store::{
    Body, BoxError, CompletedPart, Gathering, Label, ObjectKey, Pieces, PutOptions, SendMode, Store,
    StoreError, UploadId,
};

/// Number of chunks between the request and the store: enough to keep both busy, few enough not to matter in memory.
const CHUNKS_IN_FLIGHT: usize = 8;
/// Number of concurrent parts: while the store finishes one, the next is already being sent.
const PARTS_IN_FLIGHT: usize = 2;

/// Writes one object to a local store.
pub(crate) struct ObjectWriter<'c> {
    context: &'c Context,
    memory: &'c UploadMemory,
    owner: UserId,
    pub(crate) store: Store,
    pub(crate) object_id: ObjectId,
    pub(crate) key: ObjectKey,
    options: PutOptions,
    upload: Option<UploadId>,
    /// Number of the last started part.
    number: u32,
    /// Parts that the store has not acknowledged yet. Dropped with the writer.
    in_flight: JoinSet<Result<CompletedPart, StoreError>>,
    parts: Vec<CompletedPart>,
    /// Whether the checksum of a part followed its content.
    has_trailers: bool,
    renewed: Instant,
}

impl<'c> ObjectWriter<'c> {
    pub(crate) fn new(
        context: &'c Context,
        memory: &'c UploadMemory,
        owner: UserId,
        store: Store,
        object_id: ObjectId,
        key: ObjectKey,
        options: PutOptions,
    ) -> Self {
        Self {
            context,
            memory,
            owner,
            store,
            object_id,
            key,
            options,
            upload: None,
            number: 0,
            in_flight: JoinSet::new(),
            parts: Vec::new(),
            has_trailers: false,
            renewed: Instant::now(),
        }
    }

    /// Records the intent. From now on the reaper can delete everything that is sent.
    pub(crate) async fn begin(&mut self, content_type: &str) -> Result<()> {
        let upload = NewUpload {
            id: self.object_id,
            owner_id: self.owner,
            key: self.key.as_str(),
            state: ObjectState::Uploading,
            content_type,
            upload_store: self.store.name().as_str(),
            upload_expires_at: self.expiry(),
        };
        objects::begin_upload(&mut *self.context.db.conn().await?, &upload).await
    }

    fn expiry(&self) -> chrono::DateTime<chrono::Utc> {
        self.context.clock.now() + self.context.config.uploads.reap_after
    }

    /// Renews the upload at intervals, so that the reaper does not abandon a slow one.
    async fn renew(&mut self, now: bool) -> Result<()> {
        if !now && self.renewed.elapsed() < self.context.config.uploads.reap_after / 4 {
            return Ok(());
        }
        let mut conn = self.context.db.conn().await?;
        let upload = self.upload.as_ref().map(UploadId::as_str);
        if !objects::renew_upload(&mut conn, self.object_id, upload, self.expiry()).await? {
            return Err(Error::Conflict(
                "The upload took too long and was aborted. Send it again.".to_owned(),
            ));
        }
        self.renewed = Instant::now();
        Ok(())
    }

    /// Sends everything. Returns a description of what was sent and the ETag, after verification. Also records what
    /// this shows about the health of the store.
    pub(crate) async fn write<B: Incoming>(
        &mut self,
        incoming: &mut Receiver<'_, B>,
    ) -> Result<(ObjectDigest, String)> {
        let written = self.write_all(incoming).await;
        let (health, now) = (self.context.stores.health(), self.context.clock.now());
        match &written {
            Ok(_) => health.received(self.store.name().as_str(), now),
            Err(Error::Store(error)) => health.failed(error, now),
            Err(_) => {}
        }
        written
    }

    async fn write_all<B: Incoming>(
        &mut self,
        incoming: &mut Receiver<'_, B>,
    ) -> Result<(ObjectDigest, String)> {
        let memory = self.memory;
        let (held, streamed) = (memory.part(), self.streamed_part_size(incoming.at_most()));
        loop {
            let certain = incoming.at_least();
            if certain >= MIN_PART_SIZE {
                // Waits for buffers of this upload that are about to be released.
                self.wait_for_parts(PARTS_IN_FLIGHT).await?;
                let length = part_of(certain, held);
                match memory.spare(length) {
                    Some(room) => self.hold_part(incoming, length, room).await?,
                    None => self.stream_part(incoming, part_of(certain, streamed), ends_early).await?,
                }
                continue;
            }
            let room = match incoming.expected() {
                None => memory.turn(self.owner).await?,
                Some(expected) => match memory.spare(incoming.at_most().unwrap_or(expected).min(held)) {
                    Some(room) => room,
                    None => return self.stream_end(incoming, expected).await,
                },
            };
            let (part, ended) = self.gather(incoming, held, &room).await?;
            if ended && self.upload.is_none() {
                return self.put_single(incoming, part).await;
            }
            if part.length() > 0 {
                self.send_held(part, room).await?;
            }
            if ended {
                return self.complete(incoming).await;
            }
        }
    }

    /// The configured part size, or a larger one if 10,000 parts would not be sufficient.
    fn streamed_part_size(&self, at_most: Option<u64>) -> u64 {
        let configured = self.context.config.uploads.part_size_mib.saturating_mul(MEBIBYTE);
        configured.max(at_most.unwrap_or(0) / 9_000)
    }

    /// Buffers at most `most` bytes; returns whether the upload ended with them.
    async fn gather<B: Incoming>(
        &mut self,
        incoming: &mut Receiver<'_, B>,
        most: u64,
        room: &Room,
    ) -> Result<(Pieces, bool)> {
        let mut gathering = Gathering::default();
        while gathering.length() < most {
            let arriving = incoming.take(most - gathering.length());
            let Some(chunk) = room.while_in_time(gathering.length(), arriving).await? else {
                return Ok((gathering.finish(), true));
            };
            gathering.push(&chunk);
            self.renew(false).await?;
        }
        let arriving = async { Ok(incoming.peek().await?.is_empty()) };
        let ended = room.while_in_time(gathering.length(), arriving).await?;
        Ok((gathering.finish(), ended))
    }

    /// The whole file in one request; the store verifies its SHA-256.
    async fn put_single<B>(
        &mut self,
        incoming: &mut Receiver<'_, B>,
        file: Pieces,
    ) -> Result<(ObjectDigest, String)> {
        let digest = std::mem::take(&mut incoming.hasher).finish();
        self.options.sha256 = Some(digest.sha256);
        let known =
            Label { sha256: Some(digest.sha256), crc64nvme: Some(digest.crc64nvme), ..Label::default() };
        self.options.metadata.extend(known.metadata());
        let receipt = crate::retry::retry(
            &verify::QUICK_RETRY,
            || self.store.put(&self.key, Body::from(file.clone()), &self.options),
            StoreError::retry,
        )
        .await?;
        let form = Form::from(&digest);
        verify::verify_object(&self.store, &self.key, &receipt, &form, SendMode::Whole, None).await?;
        Ok((digest, receipt.etag))
    }

    /// Buffers `length` bytes and sends them as a part.
    async fn hold_part<B: Incoming>(
        &mut self,
        incoming: &mut Receiver<'_, B>,
        length: u64,
        room: Room,
    ) -> Result<()> {
        let (part, _) = self.gather(incoming, length, &room).await?;
        if part.length() < length {
            return Err(ends_early());
        }
        self.send_held(part, room).await
    }

    /// Sends a buffered part, and releases its memory when the store has acknowledged it. The acknowledgement may
    /// arrive later; until then the part is retried as necessary.
    async fn send_held(&mut self, part: Pieces, room: Room) -> Result<()> {
        let (upload, number) = self.next_part().await?;
        let (store, key) = (self.store.clone(), self.key.clone());
        self.in_flight.spawn(async move {
            let crc = Some(part.crc64nvme());
            let send = || store.put_part(&key, &upload, number, Body::from(part.clone()), crc);
            let receipt = crate::retry::retry(&verify::QUICK_RETRY, send, StoreError::retry).await?;
            drop(room);
            Ok(CompletedPart { number, etag: receipt.etag, crc64nvme: crc })
        });
        Ok(())
    }

    /// Passes the end of an upload through, with `expected` remaining bytes according to a conventional end of the
    /// form. An upload with another end has to be repeated when there is room to buffer it.
    async fn stream_end<B: Incoming>(
        &mut self,
        incoming: &mut Receiver<'_, B>,
        expected: u64,
    ) -> Result<(ObjectDigest, String)> {
        if expected > 0 {
            self.stream_part(incoming, expected, busy).await?;
        }
        if !incoming.peek().await?.is_empty() {
            return Err(busy());
        }
        if self.upload.is_none() {
            return self.put_single(incoming, Gathering::default().finish()).await;
        }
        self.complete(incoming).await
    }

    /// Passes exactly `length` bytes through without buffering them, or fails with `shorter`. The acknowledgement of
    /// the store may arrive later.
    async fn stream_part<B: Incoming>(
        &mut self,
        incoming: &mut Receiver<'_, B>,
        length: u64,
        shorter: fn() -> Error,
    ) -> Result<()> {
        let (upload, number) = self.next_part().await?;
        self.wait_for_parts(PARTS_IN_FLIGHT - 1).await?;
        self.has_trailers = true;
        let (sender, receiver) = mpsc::channel::<Result<Bytes, BoxError>>(CHUNKS_IN_FLIGHT);
        let (store, key) = (self.store.clone(), self.key.clone());
        self.in_flight.spawn(async move {
            let body = Body::stream(length, ReceiverStream::new(receiver));
            let receipt = store.put_part_trailing(&key, &upload, number, body).await?;
            Ok(CompletedPart { number, etag: receipt.etag, crc64nvme: receipt.crc64nvme })
        });
        if self.feed(incoming, length, shorter, sender).await? {
            return Ok(());
        }
        self.wait_for_parts(0).await?;
        Err(Error::Internal("the store acknowledged a part without reading it".to_owned()))
    }

    /// Waits until at most `most` parts are in flight.
    async fn wait_for_parts(&mut self, most: usize) -> Result<()> {
        while self.in_flight.len() > most {
            let Some(ended) = self.in_flight.join_next().await else { break };
            let part =
                ended.map_err(|error| Error::Internal(format!("sending a part was interrupted: {error}")))?;
            self.parts.push(part?);
        }
        Ok(())
    }

    /// Passes on `length` bytes. Returns false if the store stopped reading before their end, in which case it reports
    /// the error itself.
    async fn feed<B: Incoming>(
        &mut self,
        incoming: &mut Receiver<'_, B>,
        length: u64,
        shorter: fn() -> Error,
        sender: mpsc::Sender<Result<Bytes, BoxError>>,
    ) -> Result<bool> {
        let mut left = length;
        while left > 0 {
            let chunk = match incoming.take(left).await.and_then(|chunk| chunk.ok_or_else(shorter)) {
                Ok(chunk) => chunk,
                Err(error) => {
                    let _ = sender.send(Err(error.to_string().into())).await;
                    return Err(error);
                }
            };
            left -= u64::try_from(chunk.len()).unwrap_or(left).min(left);
            if sender.send(Ok(chunk)).await.is_err() {
                return Ok(false);
            }
            self.renew(false).await?;
        }
        Ok(true)
    }

    /// The multipart upload, created with its first part, and the number of the next part.
    async fn next_part(&mut self) -> Result<(UploadId, u32)> {
        if self.upload.is_none() {
            let upload = self.store.create_multipart(&self.key, &self.options).await?;
            self.upload = Some(upload);
            self.renew(true).await?;
        }
        self.renew(false).await?;
        self.number = self.number.saturating_add(1);
        let upload =
            self.upload.clone().ok_or_else(|| Error::Internal("a part without an upload".to_owned()))?;
        Ok((upload, self.number))
    }

    /// A store that compares the checksums of the parts with that of the whole verifies with its response.
    async fn complete<B>(&mut self, incoming: &mut Receiver<'_, B>) -> Result<(ObjectDigest, String)> {
        let digest = std::mem::take(&mut incoming.hasher).finish();
        let upload = self.upload.clone().ok_or_else(|| Error::Internal("nothing to complete".to_owned()))?;
        self.wait_for_parts(0).await?;
        self.parts.sort_unstable_by_key(|part| part.number);
        let crc = Some(digest.crc64nvme);
        let receipt = self.store.complete_multipart(&self.key, &upload, &self.parts, crc).await?;
        let form = Form::from(&digest);
        let sending = if self.has_trailers { SendMode::TrailedParts } else { SendMode::Parts };
        verify::verify_object(&self.store, &self.key, &receipt, &form, sending, None).await?;
        Ok((digest, receipt.etag))
    }

    /// Leaves the sent data to the reaper. If even that fails, the recorded intent expires.
    pub(crate) async fn give_up(&mut self) {
        // No part may arrive after its upload was abandoned.
        self.in_flight.shutdown().await;
        let outcome =
            async { objects::abandon_upload(&mut *self.context.db.conn().await?, self.object_id).await };
        if let Err(error) = outcome.await {
            tracing::warn!(object = %self.object_id, %error, "cannot mark an abandoned upload; it will \
                expire");
        }
    }
}

/// Length of the next part if `certain` bytes remain: `size`, or all of them if the rest would be too small for a part.
fn part_of(certain: u64, size: u64) -> u64 {
    if certain < size.saturating_add(MIN_PART_SIZE) { certain } else { size }
}

/// The error of a request whose file ends early.
fn ends_early() -> Error {
    let what = "The form ends before its Content-Length. Send all other fields before the file.";
    Error::BadRequest(what.to_owned())
}
