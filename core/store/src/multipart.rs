//! Multipart uploads: parts in any order and in parallel, each with its own checksum, and one CRC-64/NVME over the
//! whole.

use std::collections::HashMap;
use std::fmt;

use reqwest::header::{HeaderMap, HeaderValue};
use s3::command::Command;
use s3::serde_types::CompleteMultipartUploadData;
use serde::Deserialize;

use super::chunked::TrailerCrc;
use super::options::{CHECKSUM_ALGORITHM, CHECKSUM_CRC64NVME, CHECKSUM_TYPE, value};
use super::xml::{self, CompleteMultipartUploadResult, InitiateMultipartUploadResult};
use super::{Body, ObjectKey, PutOptions, PutReceipt, Store, StoreError, StoreErrorKind, Verdict, sign};
use crate::checksum::Crc64Nvme;

const CREATE: &str = "CreateMultipartUpload";
const PART: &str = "UploadPart";
const COMPLETE: &str = "CompleteMultipartUpload";
const ABORT: &str = "AbortMultipartUpload";

/// A multipart upload id.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(transparent)]
pub struct UploadId(String);

impl UploadId {
    /// An id from the database.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// The id as returned by the store.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A part of the object to complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedPart {
    /// 1 to 10,000.
    pub number: u32,
    /// ETag without quotes.
    pub etag: String,
    /// The checksum sent with the part; `MinIO` requires it for every part of a checked upload.
    pub crc64nvme: Option<Crc64Nvme>,
}

impl Store {
    /// Creates a multipart upload whose parts and finished object are verified by CRC-64/NVME: every part needs one.
    /// The checksums in `options` belong to the whole and are not sent here: pass the CRC to
    /// [`Store::complete_multipart`].
    pub async fn create_multipart(
        &self,
        key: &ObjectKey,
        options: &PutOptions,
    ) -> Result<UploadId, StoreError> {
        self.create(key, options, true).await
    }

    /// Creates a multipart upload whose parts have no checksums, such as those that a client sends itself. Only sizes
    /// and ETags are verified: complete it without a CRC (`MinIO` rejects one here, `SeaweedFS` ignores it).
    pub async fn create_unchecked_multipart(
        &self,
        key: &ObjectKey,
        options: &PutOptions,
    ) -> Result<UploadId, StoreError> {
        self.create(key, options, false).await
    }

    async fn create(
        &self,
        key: &ObjectKey,
        options: &PutOptions,
        checked: bool,
    ) -> Result<UploadId, StoreError> {
        let mut headers = options
            .headers(self.settings().storage_class.as_deref())
            .map_err(|error| self.invalid(CREATE, &error))?;
        if checked {
            headers.insert(CHECKSUM_ALGORITHM, HeaderValue::from_static("CRC64NVME"));
            headers.insert(CHECKSUM_TYPE, HeaderValue::from_static("FULL_OBJECT"));
        }
        let bucket =
            self.0.bucket.with_extra_headers(headers).map_err(|error| self.invalid(CREATE, &error))?;
        let content_type = options.content_type.as_deref().unwrap_or("application/octet-stream");
        let attempt = || {
            let command = Command::InitiateMultipartUpload { content_type };
            self.control_document(CREATE, &bucket, key.as_str(), command, "InitiateMultipartUploadResult")
        };
        let result: InitiateMultipartUploadResult = self.signed(attempt).await?;
        Ok(result.upload_id)
    }

    /// Sends one part (`number` 1 to 10,000; all but the last at least 5 MiB). With `crc`, the store rejects other
    /// content.
    pub async fn put_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Body,
        crc: Option<Crc64Nvme>,
    ) -> Result<PutReceipt, StoreError> {
        let mut headers = HeaderMap::new();
        if let Some(crc) = crc {
            let checksum = value(CHECKSUM_CRC64NVME.as_str(), &crc.base64());
            headers.insert(CHECKSUM_CRC64NVME, checksum.map_err(|error| self.invalid(PART, &error))?);
        }
        let attempt = async |body: Body| {
            let part = Some((upload, number));
            let signing = sign::put(&self.0.bucket, key.as_str(), part, headers.clone(), None);
            let request = signing.await.map_err(|error| self.invalid(PART, &error))?;
            let receipt = self.receipt(PART, &self.send_body(PART, request, body).await?)?;
            self.compare(PART, crc, receipt.crc64nvme)?;
            Ok(receipt)
        };
        self.signed_body(body, attempt).await
    }

    /// Sends one part of a checked upload whose checksum is unknown before its last byte: it follows the content, and
    /// the store rejects other content. The receipt contains the checksum, which was computed here and not contradicted
    /// by the store.
    pub async fn put_part_trailing(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Body,
    ) -> Result<PutReceipt, StoreError> {
        self.put_part_trailing_with(key, upload, number, body, TrailerCrc::OfBody).await
    }

    /// [`Store::put_part_trailing`] with this checksum.
    pub(super) async fn put_part_trailing_with(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        body: Body,
        trailer: TrailerCrc,
    ) -> Result<PutReceipt, StoreError> {
        let attempt = async |body: Body| {
            let (part, length) = (Some((upload, number)), Some(body.length()));
            let signing = sign::put(&self.0.bucket, key.as_str(), part, HeaderMap::new(), length);
            let request = signing.await.map_err(|error| self.invalid(PART, &error))?;
            let (response, crc) = self.send_with_trailer(PART, request, body, trailer).await?;
            let receipt = self.receipt(PART, &response)?;
            self.compare(PART, Some(crc), receipt.crc64nvme)?;
            Ok(PutReceipt { crc64nvme: Some(crc), ..receipt })
        };
        self.signed_body(body, attempt).await
    }

    /// Completes the object from `parts`, in ascending order of their numbers. With `crc` (of the whole object), the
    /// store rejects other content.
    ///
    /// If the response to an earlier call was lost, the store may report that the upload does not exist
    /// ([`StoreError::is_no_such_upload`]): only [`Store::head`] can determine whether the object was completed.
    pub async fn complete_multipart(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        parts: &[CompletedPart],
        crc: Option<Crc64Nvme>,
    ) -> Result<PutReceipt, StoreError> {
        let mut headers = HeaderMap::new();
        if let Some(crc) = crc {
            let checksum = value(CHECKSUM_CRC64NVME.as_str(), &crc.base64());
            headers.insert(CHECKSUM_CRC64NVME, checksum.map_err(|error| self.invalid(COMPLETE, &error))?);
            headers.insert(CHECKSUM_TYPE, HeaderValue::from_static("FULL_OBJECT"));
        }
        let bucket =
            self.0.bucket.with_extra_headers(headers).map_err(|error| self.invalid(COMPLETE, &error))?;
        let deadline = self.settings().deadlines.complete;
        let document = write_parts(parts).map_err(|error| self.invalid(COMPLETE, &error))?;
        let attempt = || {
            // The document of rust-s3 has no fields for checksums, so it stays empty and our own is sent.
            let data = CompleteMultipartUploadData { parts: Vec::new() };
            let command = Command::CompleteMultipartUpload { upload_id: upload.as_str(), data };
            self.post_document(COMPLETE, &bucket, key.as_str(), command, document.clone(), deadline)
        };
        let body = self.signed(attempt).await?;
        // S3 sends the status before the work is done: an error may follow in the document of a 200 response.
        if let Some(error) = xml::read_error(&body) {
            let kind = StoreErrorKind::Answer { status: 200, code: error.code };
            return Err(self.error(COMPLETE, kind, error.message));
        }
        let result: CompleteMultipartUploadResult = xml::read("CompleteMultipartUploadResult", &body)
            .map_err(|detail| self.protocol(COMPLETE, detail))?;
        let receipt = PutReceipt {
            etag: result.etag,
            sha256: None,
            crc64nvme: result.crc64nvme.and_then(|text| Crc64Nvme::from_base64(&text).ok()),
        };
        self.compare(COMPLETE, crc, receipt.crc64nvme)?;
        Ok(receipt)
    }

    /// Aborts an upload and deletes its parts; a missing upload is not an error.
    pub async fn abort_multipart(&self, key: &ObjectKey, upload: &UploadId) -> Result<(), StoreError> {
        let attempt = || {
            let command = Command::AbortMultipartUpload { upload_id: upload.as_str() };
            self.control(ABORT, &self.0.bucket, key.as_str(), command)
        };
        match self.signed(attempt).await {
            Err(error) if error.is_no_such_upload() || error.verdict() == Verdict::SourceMissing => Ok(()),
            result => result.map(|_| ()),
        }
    }
}

fn write_parts(parts: &[CompletedPart]) -> Result<String, quick_xml::SeError> {
    let parts = parts
        .iter()
        .map(|part| xml::Part {
            number: part.number,
            etag: format!("\"{}\"", part.etag),
            crc64nvme: part.crc64nvme.map(Crc64Nvme::base64),
        })
        .collect();
    quick_xml::se::to_string(&xml::CompleteMultipartUpload { parts })
}

/// The query parameters of an `UploadPart` request.
pub(super) fn part_queries(upload: &UploadId, number: u32) -> HashMap<String, String> {
    HashMap::from([
        ("partNumber".to_owned(), number.to_string()),
        ("uploadId".to_owned(), upload.as_str().to_owned()),
    ])
}
