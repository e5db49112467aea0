//! Writing, inspecting and deleting whole objects.

use std::collections::BTreeMap;

use reqwest::header::{CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue};
use s3::command::Command;

use super::archive::{RestoreStatus, read_restore};
use super::chunked::TrailerCrc;
use super::options::{
    CHECKSUM_CRC64NVME, CHECKSUM_MODE, CHECKSUM_SHA256, CHECKSUM_TYPE, STORAGE_CLASS, read_metadata,
};
use super::{Body, ByteRange, ObjectKey, PutOptions, Store, StoreError, StoreErrorKind, Verdict, sign};
use crate::checksum::{Crc64Nvme, Sha256};

const PUT: &str = "PutObject";
const HEAD: &str = "HeadObject";
const DELETE: &str = "DeleteObject";

/// The store's acknowledgement of an object, or of one part. A contradicting checksum is reported as an error instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutReceipt {
    /// ETag without quotes.
    pub etag: String,
    /// The SHA-256 of the stored content according to the store, if returned.
    pub sha256: Option<Sha256>,
    /// The CRC-64/NVME of the stored content according to the store, if returned.
    pub crc64nvme: Option<Crc64Nvme>,
}

/// The properties of an object in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectHead {
    /// Size in bytes.
    pub size: u64,
    /// ETag without quotes.
    pub etag: String,
    /// SHA-256 of the whole object, if the store keeps it.
    pub sha256: Option<Sha256>,
    /// CRC-64/NVME of the whole object, if the store keeps it.
    pub crc64nvme: Option<Crc64Nvme>,
    /// Storage class; absent means the standard class.
    pub storage_class: Option<String>,
    /// The state of its restored copy, if it is archived and a restore was requested.
    pub restore: Option<RestoreStatus>,
    /// Media type.
    pub content_type: Option<String>,
    /// User metadata, decoded.
    pub metadata: BTreeMap<String, String>,
}

impl Store {
    /// Stores an object. Either all of it is stored, or nothing is and an error returned; without a response
    /// ([`StoreErrorKind::Timeout`], [`StoreErrorKind::Connection`]) only [`Store::head`] can determine which.
    pub async fn put(
        &self,
        key: &ObjectKey,
        body: Body,
        options: &PutOptions,
    ) -> Result<PutReceipt, StoreError> {
        let mut headers = self.put_headers(options)?;
        options.add_checksum(&mut headers).map_err(|error| self.invalid(PUT, &error))?;
        let attempt = async |body: Body| {
            let signing = sign::put(&self.0.bucket, key.as_str(), None, headers.clone(), None);
            let request = signing.await.map_err(|error| self.invalid(PUT, &error))?;
            let receipt = self.receipt(PUT, &self.send_body(PUT, request, body).await?)?;
            self.compare(PUT, options.sha256, receipt.sha256)?;
            self.compare(PUT, options.crc64nvme, receipt.crc64nvme)?;
            Ok(receipt)
        };
        self.signed_body(body, attempt).await
    }

    /// Like [`Store::put`], for a body whose checksum is unknown before its last byte: it follows the content, and the
    /// store rejects other content. Returns that checksum with the receipt. The checksums in `options` are not sent.
    pub async fn put_trailing(
        &self,
        key: &ObjectKey,
        body: Body,
        options: &PutOptions,
    ) -> Result<(PutReceipt, Crc64Nvme), StoreError> {
        self.put_trailing_with(key, body, options, TrailerCrc::OfBody).await
    }

    /// [`Store::put_trailing`] with this checksum.
    pub(super) async fn put_trailing_with(
        &self,
        key: &ObjectKey,
        body: Body,
        options: &PutOptions,
        trailer: TrailerCrc,
    ) -> Result<(PutReceipt, Crc64Nvme), StoreError> {
        let headers = self.put_headers(options)?;
        let attempt = async |body: Body| {
            let length = Some(body.length());
            let signing = sign::put(&self.0.bucket, key.as_str(), None, headers.clone(), length);
            let request = signing.await.map_err(|error| self.invalid(PUT, &error))?;
            let (response, crc) = self.send_with_trailer(PUT, request, body, trailer).await?;
            let receipt = self.receipt(PUT, &response)?;
            self.compare(PUT, Some(crc), receipt.crc64nvme)?;
            Ok((receipt, crc))
        };
        self.signed_body(body, attempt).await
    }

    /// All properties of an object except its checksum.
    pub(super) fn put_headers(&self, options: &PutOptions) -> Result<HeaderMap, StoreError> {
        let mut headers = options
            .headers(self.settings().storage_class.as_deref())
            .map_err(|error| self.invalid(PUT, &error))?;
        let content_type = options.content_type.as_deref().unwrap_or("application/octet-stream");
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_str(content_type).map_err(|error| self.invalid(PUT, &error))?,
        );
        Ok(headers)
    }

    pub(super) fn receipt(
        &self,
        operation: &'static str,
        response: &reqwest::Response,
    ) -> Result<PutReceipt, StoreError> {
        Ok(PutReceipt {
            etag: read_etag(response.headers()).ok_or_else(|| self.protocol(operation, "no ETag"))?,
            sha256: read_sha256(response.headers()),
            crc64nvme: read_crc64nvme(response.headers()),
        })
    }

    /// The properties of the object; `None` if it does not exist.
    pub async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, StoreError> {
        match self.signed(|| self.head_once(key)).await {
            Err(error) if matches!(error.kind(), StoreErrorKind::Answer { status: 404, .. }) => {
                self.confirm_missing(key).await
            }
            result => result.map(Some),
        }
    }

    async fn head_once(&self, key: &ObjectKey) -> Result<ObjectHead, StoreError> {
        let mode = HeaderMap::from_iter([(CHECKSUM_MODE, HeaderValue::from_static("ENABLED"))]);
        let bucket = self.0.bucket.with_extra_headers(mode).map_err(|error| self.invalid(HEAD, &error))?;
        let response = self.control(HEAD, &bucket, key.as_str(), Command::HeadObject).await?;
        let headers = response.headers();
        // The client's own length is that of the (absent) body.
        let size = read_text(headers, &reqwest::header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        Ok(ObjectHead {
            size: size.ok_or_else(|| self.protocol(HEAD, "no Content-Length"))?,
            etag: read_etag(headers).ok_or_else(|| self.protocol(HEAD, "no ETag"))?,
            sha256: read_sha256(headers),
            crc64nvme: read_crc64nvme(headers),
            storage_class: read_text(headers, &STORAGE_CLASS),
            restore: read_restore(headers),
            content_type: read_text(headers, &CONTENT_TYPE),
            metadata: read_metadata(headers),
        })
    }

    /// A 404 response to HEAD has no error code: the bucket may be missing. GET distinguishes the cases.
    async fn confirm_missing(&self, key: &ObjectKey) -> Result<Option<ObjectHead>, StoreError> {
        match self.get(key, Some(ByteRange { first: 0, last: Some(0) })).await {
            Err(error) if error.verdict() == Verdict::SourceMissing => Ok(None),
            Err(error) => Err(error),
            Ok(_) => Err(self.protocol(HEAD, "HEAD does not find an object that GET finds")),
        }
    }

    /// Deletes an object; a missing one is not an error.
    pub async fn delete(&self, key: &ObjectKey) -> Result<(), StoreError> {
        let attempt = || self.control(DELETE, &self.0.bucket, key.as_str(), Command::DeleteObject);
        match self.signed(attempt).await {
            Err(error) if error.verdict() == Verdict::SourceMissing => Ok(()),
            result => result.map(|_| ()),
        }
    }

    /// Compares the checksums sent with those returned by the store, if both are known.
    pub(super) fn compare<T: PartialEq + std::fmt::Display>(
        &self,
        operation: &'static str,
        sent: Option<T>,
        stored: Option<T>,
    ) -> Result<(), StoreError> {
        match (sent, stored) {
            (Some(sent), Some(stored)) if sent != stored => {
                let detail = format!("sent {sent}, stored {stored}");
                Err(self.error(operation, StoreErrorKind::Mismatch, detail))
            }
            _ => Ok(()),
        }
    }
}

pub(super) fn read_text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}

/// The ETag without quotes.
pub(super) fn read_etag(headers: &HeaderMap) -> Option<String> {
    read_text(headers, &ETAG).map(|etag| etag.trim_matches('"').to_owned()).filter(|etag| !etag.is_empty())
}

/// Checksums of checksums (`COMPOSITE`) do not describe the object as a whole and are ignored.
fn is_whole(headers: &HeaderMap) -> bool {
    read_text(headers, &CHECKSUM_TYPE).is_none_or(|kind| kind == "FULL_OBJECT")
}

fn read_sha256(headers: &HeaderMap) -> Option<Sha256> {
    let text = read_text(headers, &CHECKSUM_SHA256).filter(|_| is_whole(headers))?;
    Sha256::from_base64(&text).ok()
}

fn read_crc64nvme(headers: &HeaderMap) -> Option<Crc64Nvme> {
    let text = read_text(headers, &CHECKSUM_CRC64NVME).filter(|_| is_whole(headers))?;
    Crc64Nvme::from_base64(&text).ok()
}
