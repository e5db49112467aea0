//! Uploads a snapshot while it is being made: its size is not known in advance, and at most one part is buffered.

use crate::checksum::{Crc64Hasher, Sha256Hasher};
use crate::object::verify::{self, Expected, Form};
use crate::retry::{self, RetryPolicy};
use crate::store::{
    Body, CompletedPart, Gathering, ObjectKey, Pieces, PutOptions, SendMode, Store, StoreError, UploadId,
};

use super::error::CatalogError;

/// The minimum part size in S3 (`UploadPart`); 10,000 parts are 48 GiB, the catalogue of hundreds of millions of files.
const PART: u64 = 5 * 1024 * 1024;

/// The upload of a snapshot.
pub(super) struct Sending<'s> {
    store: &'s Store,
    key: ObjectKey,
    gathering: Gathering,
    upload: Option<UploadId>,
    parts: Vec<CompletedPart>,
    sha256: Sha256Hasher,
    crc: Crc64Hasher,
    bytes: u64,
}

impl<'s> Sending<'s> {
    pub(super) fn new(store: &'s Store, key: ObjectKey) -> Self {
        Self {
            store,
            key,
            gathering: Gathering::default(),
            upload: None,
            parts: Vec::new(),
            sha256: Sha256Hasher::new(),
            crc: Crc64Hasher::new(),
            bytes: 0,
        }
    }

    /// Appends bytes; sends a part when there is enough data.
    pub(super) async fn push(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.sha256.update(bytes);
        self.crc.update(bytes);
        self.bytes = self.bytes.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        self.gathering.push(bytes);
        if self.gathering.length() >= PART { self.send_part().await } else { Ok(()) }
    }

    fn options(&self) -> PutOptions {
        PutOptions {
            content_type: Some("application/zstd".to_owned()),
            // The storage class of the files may be slow or expensive to read: snapshots are the first thing to read
            // after a disaster.
            storage_class: self.store.settings().storage_class.as_ref().map(|_| "STANDARD".to_owned()),
            ..PutOptions::default()
        }
    }

    async fn send_part(&mut self) -> Result<(), StoreError> {
        let upload = if let Some(upload) = &self.upload {
            upload.clone()
        } else {
            let options = self.options();
            let create = || self.store.create_multipart(&self.key, &options);
            let upload = retry::retry(&RetryPolicy::default(), create, StoreError::retry).await?;
            self.upload.insert(upload).clone()
        };
        let number = u32::try_from(self.parts.len()).unwrap_or(u32::MAX).saturating_add(1);
        let part: Pieces = std::mem::take(&mut self.gathering).finish();
        let crc = Some(part.crc64nvme());
        let send = || self.store.put_part(&self.key, &upload, number, Body::from(part.clone()), crc);
        let receipt = retry::retry(&RetryPolicy::default(), send, StoreError::retry).await?;
        self.parts.push(CompletedPart { number, etag: receipt.etag, crc64nvme: crc });
        Ok(())
    }

    /// Completes and verifies the object. Returns its size.
    pub(super) async fn finish(&mut self) -> Result<u64, CatalogError> {
        let sha256 = std::mem::take(&mut self.sha256).finish();
        let crc64nvme = std::mem::take(&mut self.crc).finish();
        let expected = Expected { size: self.bytes, sha256, crc64nvme }.plain();
        let proved = if self.upload.is_some() {
            self.complete(&expected).await?
        } else {
            let whole: Pieces = std::mem::take(&mut self.gathering).finish();
            let options = PutOptions { sha256: Some(sha256), ..self.options() };
            let put = || self.store.put(&self.key, Body::from(whole.clone()), &options);
            let receipt = retry::retry(&RetryPolicy::default(), put, StoreError::retry).await?;
            verify::verify_object(self.store, &self.key, &receipt, &expected, SendMode::Whole, None).await
        };
        proved.map_err(crate::error::Error::from)?;
        Ok(self.bytes)
    }

    async fn complete(&mut self, expected: &Form) -> Result<Result<(), verify::Unverified>, StoreError> {
        if self.gathering.length() > 0 {
            self.send_part().await?;
        }
        let Some(upload) = self.upload.take() else { return Ok(Ok(())) };
        let crc = Some(expected.expected.crc64nvme);
        let complete = || self.store.complete_multipart(&self.key, &upload, &self.parts, crc);
        match retry::retry(&RetryPolicy::default(), complete, StoreError::retry).await {
            Ok(receipt) => {
                let sending = SendMode::Parts;
                Ok(verify::verify_object(self.store, &self.key, &receipt, expected, sending, None).await)
            }
            // The response to an earlier attempt was lost: only the object itself shows the outcome.
            Err(error) if error.is_no_such_upload() => {
                Ok(verify::verify_by_head(self.store, &self.key, expected, None).await)
            }
            Err(error) => {
                self.upload = Some(upload);
                Err(error)
            }
        }
    }

    /// Aborts the upload of a snapshot. Remains are cleaned up by the next export.
    pub(super) async fn give_up(&mut self) {
        let Some(upload) = self.upload.take() else { return };
        if let Err(error) = self.store.abort_multipart(&self.key, &upload).await {
            tracing::warn!(store = %self.store.name(), key = %self.key, %error, "cannot abort an \
                unfinished snapshot yet");
        }
    }
}
