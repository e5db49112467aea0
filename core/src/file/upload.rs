//! An upload through the service: streamed to the local store part by part, hashed on the way, acknowledged only
//! when the store has proved it and the database has recorded it.
//!
//! S3 wants the exact length of each part before its first byte. As long as the request is known to hold at least
//! that much more, a part is passed through without a buffer; only the rest, whose length is uncertain, is held in
//! memory, out of a pool that all uploads share.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use diesel_async::{AsyncConnection, AsyncPgConnection};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use super::details::{self, FileView};
use super::list::{FolderRef, resolve_folder};
use super::name;
use crate::checksum::{ObjectDigest, Sha256, UploadHasher};
use crate::config::MEBIBYTE;
use crate::context::Context;
use crate::db::enums::ObjectState;
use crate::db::files::{self, NewVersion};
use crate::db::objects::{self, NewUpload};
use crate::db::{signed, users};
use crate::error::{Error, Result};
use crate::ids::{FileId, FolderId, ObjectId, UserId};
use crate::store::metadata;
use crate::store::{Body, BoxError, CompletedPart, ObjectKey, PutOptions, Store, StoreError, UploadId};
use crate::tiering::verify;

/// Smallest part but the last (S3 `UploadPart`).
const SMALLEST_PART: u64 = 5 * MEBIBYTE;
/// Parts of uploads whose length nobody knows are held in memory: not larger than needed.
const BUFFERED_PART: u64 = 8 * MEBIBYTE;
/// Chunks between the request and the store: enough to keep both busy, too few to matter in memory.
const CHUNKS_IN_FLIGHT: usize = 8;
/// How many names are tried for `on_conflict = rename`.
const MOST_RENAMES: u32 = 1000;

/// What to do when a live file of the name is in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// The upload becomes its next version.
    #[default]
    Version,
    /// The upload gets a free name.
    Rename,
    /// The upload is refused.
    Fail,
}

/// What is uploaded, as far as it is known before the first byte.
#[derive(Debug, Clone)]
pub struct UploadRequest {
    /// Who uploads, and will own it.
    pub owner: UserId,
    /// Where to.
    pub folder: FolderRef,
    /// Name, as the client sent it.
    pub filename: String,
    /// MIME type, if the client said one; otherwise it is found out from the bytes or the name.
    pub content_type: Option<String>,
    /// See [`OnConflict`].
    pub on_conflict: OnConflict,
    /// What the client says the bytes hash to.
    pub sha256: Option<Sha256>,
}

/// The bytes of an upload as they come in, with what can be said about those still to come.
pub trait Incoming {
    /// The next bytes; none at the end.
    fn next(&mut self) -> impl Future<Output = Option<std::result::Result<Bytes, BodyError>>>;
    /// At least this many bytes are still to come, unless the client goes away.
    fn at_least(&self) -> u64;
    /// At most this many bytes are still to come, if that is known.
    fn at_most(&self) -> Option<u64>;
}

/// Why the bytes stopped coming.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client went away or sent something unreadable.
    #[error("the request's body broke off: {0}")]
    Broken(String),
    /// The client sent nothing for too long.
    #[error("no byte arrived for {} s", .0.as_secs())]
    Idle(Duration),
}

/// Receives an upload. Answers the file once its bytes are proved and recorded.
///
/// # Errors
/// [`Error::Validation`], [`Error::NotFound`] (folder), [`Error::FileTooLarge`], [`Error::QuotaExceeded`],
/// [`Error::ChecksumMismatch`], [`Error::NameTaken`], [`Error::BadRequest`] when the body breaks off,
/// [`Error::Store`]. Whatever the outcome, nothing stays behind: what was sent is marked and reaped.
pub async fn receive(
    context: &Context,
    request: UploadRequest,
    body: &mut impl Incoming,
) -> Result<FileView> {
    let filename = name::check(&request.filename, "filename")?;
    let folder = resolve_folder(context, request.owner, request.folder).await?;
    let limit = context.config.server.max_file_size_mb.saturating_mul(MEBIBYTE);
    if body.at_least() > limit {
        return Err(Error::FileTooLarge { limit });
    }
    let mut incoming = Receiver::new(body, limit);
    let content_type = content_type(&request, &filename, incoming.peek().await?);
    let store = context.stores.local()?.clone();
    let object_id = ObjectId::new();
    let key = ObjectKey::new(request.owner.0, object_id.0, &filename);
    let mut transfer = Transfer {
        context,
        store,
        object_id,
        options: put_options(&request, object_id, &filename, &content_type),
        key,
        upload: None,
        parts: Vec::new(),
        renewed: Instant::now(),
    };
    transfer.begin(request.owner, &content_type).await?;
    let outcome = async {
        let (digest, etag) = transfer.carry(&mut incoming).await?;
        if let Some(expected) = request.sha256.filter(|expected| *expected != digest.sha256) {
            return Err(Error::ChecksumMismatch {
                expected: expected.to_string(),
                actual: digest.sha256.to_string(),
            });
        }
        record(context, &request, folder, &filename, &content_type, &transfer, &digest, &etag).await
    }
    .await;
    match outcome {
        Ok(id) => details::find(context, request.owner, id).await,
        Err(error) => {
            transfer.give_up().await;
            Err(error)
        }
    }
}

fn put_options(request: &UploadRequest, object: ObjectId, filename: &str, content_type: &str) -> PutOptions {
    PutOptions {
        content_type: Some(content_type.to_owned()),
        metadata: BTreeMap::from([
            (metadata::OBJECT, object.to_string()),
            (metadata::OWNER, request.owner.to_string()),
            (metadata::NAME, filename.to_owned()),
        ]),
        ..PutOptions::default()
    }
}

/// What the client says, unless it says nothing or only that it does not know; then the first bytes, then the name.
fn content_type(request: &UploadRequest, filename: &str, first: &[u8]) -> String {
    const UNKNOWN: &str = "application/octet-stream";
    let said = request.content_type.as_deref().and_then(|text| text.parse::<mime::Mime>().ok());
    match said {
        Some(said) if said.essence_str() != UNKNOWN && said.as_ref().len() <= 255 => said.to_string(),
        _ => infer::get(first)
            .map(|kind| kind.mime_type().to_owned())
            .or_else(|| mime_guess::from_path(filename).first_raw().map(str::to_owned))
            .unwrap_or_else(|| UNKNOWN.to_owned()),
    }
}

/// The bytes of the request, counted, hashed and with the possibility to look ahead by one chunk.
struct Receiver<'b, B> {
    body: &'b mut B,
    ahead: Option<Bytes>,
    ended: bool,
    hasher: UploadHasher,
    limit: u64,
}

impl<'b, B: Incoming> Receiver<'b, B> {
    fn new(body: &'b mut B, limit: u64) -> Self {
        Self { body, ahead: None, ended: false, hasher: UploadHasher::new(), limit }
    }

    /// The next chunk without taking it; empty at the end.
    async fn peek(&mut self) -> Result<&[u8]> {
        while self.ahead.is_none() && !self.ended {
            match self.body.next().await {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => self.ahead = Some(chunk),
                Some(Err(error)) => return Err(Error::BadRequest(error.to_string())),
                None => self.ended = true,
            }
        }
        Ok(self.ahead.as_deref().unwrap_or_default())
    }

    /// Takes at most `most` bytes; none at the end.
    async fn take(&mut self, most: u64) -> Result<Option<Bytes>> {
        self.peek().await?;
        let Some(mut chunk) = self.ahead.take() else { return Ok(None) };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        if chunk.len() > most {
            self.ahead = Some(chunk.split_off(most));
        }
        self.hasher.update(&chunk);
        if self.hasher.size() > self.limit {
            return Err(Error::FileTooLarge { limit: self.limit });
        }
        Ok(Some(chunk))
    }

    fn ahead(&self) -> u64 {
        self.ahead.as_ref().map_or(0, |chunk| u64::try_from(chunk.len()).unwrap_or(u64::MAX))
    }

    fn at_least(&self) -> u64 {
        self.body.at_least().saturating_add(self.ahead())
    }

    fn at_most(&self) -> Option<u64> {
        Some(self.body.at_most()?.saturating_add(self.ahead()))
    }
}

/// The way of one object into the local store.
struct Transfer<'c> {
    context: &'c Context,
    store: Store,
    object_id: ObjectId,
    key: ObjectKey,
    options: PutOptions,
    upload: Option<UploadId>,
    parts: Vec<CompletedPart>,
    renewed: Instant,
}

impl Transfer<'_> {
    /// Marks the intent. From here on the reaper knows of whatever is sent.
    async fn begin(&mut self, owner: UserId, content_type: &str) -> Result<()> {
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
    async fn carry<B: Incoming>(&mut self, incoming: &mut Receiver<'_, B>) -> Result<(ObjectDigest, String)> {
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
        let receipt = crate::retry::retry(
            &verify::QUICK_RETRY,
            || self.store.put_part(&self.key, &upload, number, Body::Bytes(bytes.clone()), None),
            StoreError::retry,
        )
        .await?;
        self.parts.push(CompletedPart { number, etag: receipt.etag, crc64nvme: None });
        Ok(())
    }

    /// Passes exactly `length` bytes through without holding them.
    async fn stream_part<B: Incoming>(&mut self, incoming: &mut Receiver<'_, B>, length: u64) -> Result<()> {
        let (upload, number) = self.next_part().await?;
        let (sender, receiver) = mpsc::channel::<std::result::Result<Bytes, BoxError>>(CHUNKS_IN_FLIGHT);
        let store = self.store.clone();
        let key = self.key.clone();
        let sending =
            store.put_part(&key, &upload, number, Body::stream(length, ReceiverStream::new(receiver)), None);
        let feeding = self.feed(incoming, length, sender);
        let (sent, fed) = tokio::join!(sending, feeding);
        // When the request's body failed, the store's complaint is only its echo.
        fed?;
        self.parts.push(CompletedPart { number, etag: sent?.etag, crc64nvme: None });
        Ok(())
    }

    /// Hands over `length` bytes. Ends early and well when the store stops listening: it then says why itself.
    async fn feed<B: Incoming>(
        &mut self,
        incoming: &mut Receiver<'_, B>,
        length: u64,
        sender: mpsc::Sender<std::result::Result<Bytes, BoxError>>,
    ) -> Result<()> {
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
                return Ok(());
            }
            self.renew(false).await?;
        }
        Ok(())
    }

    /// The multipart upload, begun at its first part, and the number of the next part.
    async fn next_part(&mut self) -> Result<(UploadId, u32)> {
        if self.upload.is_none() {
            let upload = self.store.create_unchecked_multipart(&self.key, &self.options).await?;
            self.upload = Some(upload);
            self.renew(true).await?;
        }
        self.renew(false).await?;
        let number = u32::try_from(self.parts.len()).unwrap_or(u32::MAX).saturating_add(1);
        let upload =
            self.upload.clone().ok_or_else(|| Error::Internal("a part without an upload".to_owned()))?;
        Ok((upload, number))
    }

    async fn complete<B>(&mut self, incoming: &mut Receiver<'_, B>) -> Result<(ObjectDigest, String)> {
        let digest = std::mem::take(&mut incoming.hasher).finish();
        let upload = self.upload.clone().ok_or_else(|| Error::Internal("nothing to complete".to_owned()))?;
        let receipt = self.store.complete_multipart(&self.key, &upload, &self.parts, None).await?;
        verify::prove(&self.store, &self.key, &receipt, &digest.expected()).await?;
        Ok((digest, receipt.etag))
    }

    /// Hands what was sent to the reaper. When even that fails, the mark made at the beginning expires by itself.
    async fn give_up(&self) {
        let outcome = async {
            let mut conn = self.context.db.conn().await?;
            objects::abandon_upload(&mut conn, self.object_id).await
        };
        if let Err(error) = outcome.await {
            tracing::warn!(object = %self.object_id, %error, "an abandoned upload could not be marked; it expires by itself");
        }
    }
}

/// The acknowledgement: object, replica, version, file and booked bytes in one transaction.
#[allow(clippy::too_many_arguments, reason = "the facts of one transaction, each used once")]
async fn record(
    context: &Context,
    request: &UploadRequest,
    folder: FolderId,
    filename: &str,
    content_type: &str,
    transfer: &Transfer<'_>,
    digest: &ObjectDigest,
    etag: &str,
) -> Result<FileId> {
    let new = NewVersion {
        owner_id: request.owner,
        created_by: request.owner,
        folder_id: folder,
        filename,
        original_filename: filename,
        object_id: transfer.object_id,
        size: signed(digest.size),
        content_type,
        store: transfer.store.name().as_str(),
    };
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        users::book_bytes(conn, request.owner, new.size).await?;
        objects::finish_upload(conn, new.object_id, digest, new.store, etag).await?;
        place(conn, &new, request.on_conflict).await
    })
    .await
}

/// Gives the version its place: a new name, or the next version of the file that has the name.
async fn place(
    conn: &mut AsyncPgConnection,
    new: &NewVersion<'_>,
    on_conflict: OnConflict,
) -> Result<FileId> {
    match on_conflict {
        OnConflict::Fail => {
            files::insert(conn, new).await?.ok_or_else(|| Error::NameTaken(new.filename.to_owned()))
        }
        OnConflict::Version => {
            // Between the two the name may be given up or taken by somebody else; then the other one works.
            for _ in 0..10 {
                if let Some(id) = files::add_version(conn, new).await? {
                    return Ok(id);
                }
                if let Some(id) = files::insert(conn, new).await? {
                    return Ok(id);
                }
            }
            Err(Error::Conflict("The file keeps changing. Try again.".to_owned()))
        }
        OnConflict::Rename => {
            if let Some(id) = files::insert(conn, new).await? {
                return Ok(id);
            }
            for number in 1..MOST_RENAMES {
                let filename = name::numbered(new.filename, number);
                let renamed = NewVersion { filename: &filename, ..new.clone() };
                if let Some(id) = files::insert(conn, &renamed).await? {
                    return Ok(id);
                }
            }
            Err(Error::NameTaken(new.filename.to_owned()))
        }
    }
}
