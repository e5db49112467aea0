//! The way of an upload's bytes into the local store.
//!
//! S3 wants the exact length of each part before its first byte. As long as the request is known to hold at least
//! that much more, a part is passed through without a buffer, its checksum behind it; only the rest, whose length is
//! uncertain, is held in memory, out of a pool that all uploads share.

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::receiver::{Incoming, Receiver};
use crate::checksum::{Crc64Nvme, ObjectDigest};
use crate::config::MEBIBYTE;
use crate::context::Context;
use crate::db::enums::ObjectState;
use crate::db::objects::{self, NewUpload};
use crate::error::{Error, Result};
use crate::ids::{ObjectId, UserId};
use crate::store::{Body, BoxError, CompletedPart, ObjectKey, PutOptions, Store, StoreError, UploadId};
use crate::tiering::verify;

/// Smallest part but the last (S3 `UploadPart`).
const SMALLEST_PART: u64 = 5 * MEBIBYTE;
/// Parts of uploads whose length nobody knows are held in memory: not larger than needed.
const BUFFERED_PART: u64 = 8 * MEBIBYTE;
/// Chunks between the request and the store: enough to keep both busy, too few to matter in memory.
const CHUNKS_IN_FLIGHT: usize = 8;
/// Streamed parts under way at once: while the store finishes one, the next already flows.
const PARTS_IN_FLIGHT: usize = 2;

/// The way of one object into the local store.
pub(super) struct Transfer<'c> {
    context: &'c Context,
    store: Store,
    object_id: ObjectId,
    key: ObjectKey,
    options: PutOptions,
    upload: Option<UploadId>,
    /// Number of the part that was begun last.
    number: u32,
    /// Streamed parts that the store has not acknowledged yet. Given up with the transfer.
    in_flight: JoinSet<std::result::Result<CompletedPart, StoreError>>,
    parts: Vec<CompletedPart>,
    renewed: Instant,
}

impl<'c> Transfer<'c> {
    /// The way of `object_id` into the local store.
    pub(super) fn new(
        context: &'c Context,
        object_id: ObjectId,
        key: ObjectKey,
        options: PutOptions,
    ) -> Result<Self> {
        Ok(Self {
            context,
            store: context.stores.local()?.clone(),
            object_id,
            key,
            options,
            upload: None,
            number: 0,
            in_flight: JoinSet::new(),
            parts: Vec::new(),
            renewed: Instant::now(),
        })
    }

    /// Where the bytes go.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// What they become.
    pub(super) fn object_id(&self) -> ObjectId {
        self.object_id
    }

    /// Marks the intent. From here on the reaper knows of whatever is sent.
    pub(super) async fn begin(&mut self, owner: UserId, content_type: &str) -> Result<()> {
        let upload = NewUpload {
            id: self.object_id,
            owner_id: owner,
            key: self.key.as_str(),
            state: ObjectState::Uploading,
            content_type,
            upload_store: self.store.name().as_str(),
            upload_expires_at: self.expiry(),
        };
        let mut conn = self.context.db.conn().await?;
        objects::begin_upload(&mut conn, &upload).await
    }

    fn expiry(&self) -> chrono::DateTime<chrono::Utc> {
        self.context.clock.now() + self.context.config.uploads.reap_after
    }

    /// A sign of life, now and then, so that the reaper leaves a slow upload alone.
    async fn renew(&mut self, now: bool) -> Result<()> {
        if !now && self.renewed.elapsed() < self.context.config.uploads.reap_after / 4 {
            return Ok(());
        }
        let mut conn = self.context.db.conn().await?;
        let upload = self.upload.as_ref().map(UploadId::as_str);
        if !objects::renew_upload(&mut conn, self.object_id, upload, self.expiry()).await? {
            return Err(Error::Conflict(
                "The upload took too long and was given up. Send it again.".to_owned(),
            ));
        }
        self.renewed = Instant::now();
        Ok(())
    }

    /// Sends everything. Answers what was sent and the store's ETag of it, proved.
    pub(super) async fn carry<B: Incoming>(
        &mut self,
        incoming: &mut Receiver<'_, B>,
    ) -> Result<(ObjectDigest, String)> {
        let part_size = self.part_size(incoming.at_most());
        loop {
            let certain = incoming.at_least();
            if certain >= SMALLEST_PART {
                // Take the certain rest in one part when what would be left over is too small for one of its own.
                let length = if certain < part_size + SMALLEST_PART { certain } else { part_size };
                self.stream_part(incoming, length).await?;
                continue;
            }
            let memory = self.memory(incoming.at_most()).await?;
            let (bytes, ended) = self.buffer(incoming).await?;
            if ended && self.upload.is_none() {
                return self.put_whole(incoming, bytes).await;
            }
            if !bytes.is_empty() {
                self.buffered_part(bytes).await?;
            }
            drop(memory);
            if ended {
                return self.complete(incoming).await;
            }
        }
    }

    /// The configured part size, or more where 10,000 parts would not be enough.
    fn part_size(&self, at_most: Option<u64>) -> u64 {
        let configured = self.context.config.uploads.part_size_mb.saturating_mul(MEBIBYTE);
        configured.max(at_most.unwrap_or(0) / 9_000)
    }

    /// Waits until the pool has room for what is about to be buffered. Taken whole, before the first byte of it:
    /// uploads that each hold a part of what they need could wait for each other for ever.
    async fn memory(&self, at_most: Option<u64>) -> Result<OwnedSemaphorePermit> {
        let bytes = at_most.unwrap_or(u64::MAX).min(self.buffered_part_size());
        let pool = self.context.config.uploads.buffer_pool_mb.saturating_mul(1024);
        let kib = (bytes / 1024 + 1).min(pool);
        self.context
            .upload_memory
            .clone()
            .acquire_many_owned(u32::try_from(kib).unwrap_or(u32::MAX))
            .await
            .map_err(|_| Error::Internal("the pool of upload buffers is closed".to_owned()))
    }

    /// Large enough that the largest file allowed stays below 10,000 parts.
    fn buffered_part_size(&self) -> u64 {
        BUFFERED_PART.max(self.context.config.server.max_file_size_mb.saturating_mul(MEBIBYTE) / 9_000)
    }

    /// Fills a buffer; says whether the upload ended with it.
    async fn buffer<B: Incoming>(&mut self, incoming: &mut Receiver<'_, B>) -> Result<(Bytes, bool)> {
        let mut buffer = BytesMut::new();
        let mut room = self.buffered_part_size();
        while room > 0 {
            let Some(chunk) = incoming.take(room).await? else { return Ok((buffer.freeze(), true)) };
            room -= u64::try_from(chunk.len()).unwrap_or(room).min(room);
            buffer.extend_from_slice(&chunk);
            self.renew(false).await?;
        }
        let ended = incoming.peek().await?.is_empty();
        Ok((buffer.freeze(), ended))
    }

    /// The whole file in one request, checked by the store against its SHA-256.
    async fn put_whole<B>(
        &mut self,
        incoming: &mut Receiver<'_, B>,
        bytes: Bytes,
    ) -> Result<(ObjectDigest, String)> {
        let digest = std::mem::take(&mut incoming.hasher).finish();
        self.options.sha256 = Some(digest.sha256);
        let receipt = crate::retry::retry(
            &verify::QUICK_RETRY,
            || self.store.put(&self.key, Body::Bytes(bytes.clone()), &self.options),
            StoreError::retry,
        )
        .await?;
        verify::prove(&self.store, &self.key, &receipt, &digest.expected()).await?;
        Ok((digest, receipt.etag))
    }

    async fn buffered_part(&mut self, bytes: Bytes) -> Result<()> {
        let (upload, number) = self.next_part().await?;
        let crc = Some(Crc64Nvme::of(&bytes));
        let receipt = crate::retry::retry(
            &verify::QUICK_RETRY,
            || self.store.put_part(&self.key, &upload, number, Body::Bytes(bytes.clone()), crc),
            StoreError::retry,
        )
        .await?;
        self.parts.push(CompletedPart { number, etag: receipt.etag, crc64nvme: crc });
        Ok(())
    }

    /// Passes exactly `length` bytes through without holding them. The store's acknowledgement may come later.
    async fn stream_part<B: Incoming>(&mut self, incoming: &mut Receiver<'_, B>, length: u64) -> Result<()> {
        let (upload, number) = self.next_part().await?;
        self.settle(PARTS_IN_FLIGHT - 1).await?;
        let (sender, receiver) = mpsc::channel::<std::result::Result<Bytes, BoxError>>(CHUNKS_IN_FLIGHT);
        let (store, key) = (self.store.clone(), self.key.clone());
        self.in_flight.spawn(async move {
            let body = Body::stream(length, ReceiverStream::new(receiver));
            let receipt = store.put_part_trailing(&key, &upload, number, body).await?;
            Ok(CompletedPart { number, etag: receipt.etag, crc64nvme: receipt.crc64nvme })
        });
        if self.feed(incoming, length, sender).await? {
            return Ok(());
        }
        self.settle(0).await?;
        Err(Error::Internal("the store acknowledged a part that it did not read".to_owned()))
    }

    /// Waits until at most `most` streamed parts are under way.
    async fn settle(&mut self, most: usize) -> Result<()> {
        while self.in_flight.len() > most {
            let Some(ended) = self.in_flight.join_next().await else { break };
            let part =
                ended.map_err(|error| Error::Internal(format!("sending a part broke off: {error}")))?;
            self.parts.push(part?);
        }
        Ok(())
    }

    /// Hands over `length` bytes. False when the store stopped listening before their end: it says why itself.
    async fn feed<B: Incoming>(
        &mut self,
        incoming: &mut Receiver<'_, B>,
        length: u64,
        sender: mpsc::Sender<std::result::Result<Bytes, BoxError>>,
    ) -> Result<bool> {
        let mut left = length;
        while left > 0 {
            let chunk = match incoming.take(left).await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => {
                    let error = "The form ends before its Content-Length says. Send all other fields before the file.";
                    let _ = sender.send(Err(error.into())).await;
                    return Err(Error::BadRequest(error.to_owned()));
                }
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

    /// The multipart upload, begun at its first part, and the number of the next part.
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

    /// The store checks the parts' checksums against that of the whole: its answer is the proof.
    async fn complete<B>(&mut self, incoming: &mut Receiver<'_, B>) -> Result<(ObjectDigest, String)> {
        let digest = std::mem::take(&mut incoming.hasher).finish();
        let upload = self.upload.clone().ok_or_else(|| Error::Internal("nothing to complete".to_owned()))?;
        self.settle(0).await?;
        self.parts.sort_unstable_by_key(|part| part.number);
        let crc = Some(digest.crc64nvme);
        let receipt = self.store.complete_multipart(&self.key, &upload, &self.parts, crc).await?;
        verify::prove(&self.store, &self.key, &receipt, &digest.expected()).await?;
        Ok((digest, receipt.etag))
    }

    /// Hands what was sent to the reaper. When even that fails, the mark made at the beginning expires by itself.
    pub(super) async fn give_up(&mut self) {
        // No part may arrive after its upload was given up.
        self.in_flight.shutdown().await;
        let outcome = async {
            let mut conn = self.context.db.conn().await?;
            objects::abandon_upload(&mut conn, self.object_id).await
        };
        if let Err(error) = outcome.await {
            tracing::warn!(object = %self.object_id, %error, "an abandoned upload could not be marked; it expires by itself");
        }
    }
}
