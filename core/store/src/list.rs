//! Listings, in key order and page by page, so that memory use does not depend on the size of the bucket.

use chrono::{DateTime, Utc};
use s3::command::Command;
use serde::Deserialize;

use super::xml::{self, ListBucketResult, ListMultipartUploadsResult};
use super::{Store, StoreError, UploadId};

const LIST: &str = "ListObjectsV2";
const LIST_UPLOADS: &str = "ListMultipartUploads";

/// Maximum number of objects in one page of a listing: the limit of S3.
pub const LIST_LIMIT: usize = 1000;

/// Maximum number of unfinished uploads returned at once.
const UPLOADS_LIMIT: usize = 10_000;

/// Objects in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPage {
    /// The objects of this page.
    pub objects: Vec<ListedObject>,
    /// Where the next page starts: pass it as `after`. `None` on the last page.
    pub next: Option<String>,
}

/// One object of a listing. Its key is arbitrary: everything in the bucket is listed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedObject {
    /// Key.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// ETag without quotes.
    #[serde(rename = "ETag", default, deserialize_with = "xml::unquoted")]
    pub etag: String,
    /// When it was written.
    pub last_modified: DateTime<Utc>,
}

/// An unfinished multipart upload.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ListedUpload {
    /// Key of the object being uploaded.
    pub key: String,
    /// The upload id.
    pub upload_id: UploadId,
    /// When it started.
    pub initiated: DateTime<Utc>,
}

/// Unfinished multipart uploads, in key order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadPage {
    /// The uploads of this page.
    pub uploads: Vec<ListedUpload>,
    /// Where the next page starts: pass it as `after`. `None` on the last page.
    pub next: Option<UploadMarker>,
}

/// A position in a listing of unfinished uploads, as returned by the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadMarker {
    key: String,
    upload_id: Option<String>,
}

impl Store {
    /// Up to `limit` (at most [`LIST_LIMIT`]) objects with the prefix `prefix` after the key `after`.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        let attempt = || {
            let command = Command::ListObjectsV2 {
                prefix: prefix.to_owned(),
                delimiter: None,
                continuation_token: None,
                start_after: after.map(str::to_owned),
                max_keys: Some(limit.clamp(1, LIST_LIMIT)),
            };
            self.control_document(LIST, &self.0.bucket, "/", command, "ListBucketResult")
        };
        let ListBucketResult { is_truncated, contents: objects } = self.signed(attempt).await?;
        let next = match (is_truncated, objects.last()) {
            (false, _) => None,
            (true, Some(last)) => Some(last.key.clone()),
            (true, None) => return Err(self.protocol(LIST, "an empty page announces further pages")),
        };
        Ok(ListPage { objects, next })
    }

    /// Unfinished multipart uploads with the prefix `prefix`, at most 10,000: callers that need all of a store use
    /// [`Self::list_multipart_uploads_page`].
    pub async fn list_multipart_uploads(&self, prefix: &str) -> Result<Vec<ListedUpload>, StoreError> {
        let mut uploads = Vec::new();
        let mut after = None;
        loop {
            let page = self.list_multipart_uploads_page(prefix, after.as_ref(), LIST_LIMIT).await?;
            uploads.extend(page.uploads);
            after = page.next;
            if after.is_none() || uploads.len() >= UPLOADS_LIMIT {
                uploads.truncate(UPLOADS_LIMIT);
                return Ok(uploads);
            }
        }
    }

    /// Up to `limit` (at most [`LIST_LIMIT`]) unfinished multipart uploads with the prefix `prefix`, after `after`.
    pub async fn list_multipart_uploads_page(
        &self,
        prefix: &str,
        after: Option<&UploadMarker>,
        limit: usize,
    ) -> Result<UploadPage, StoreError> {
        let attempt = || {
            let command = Command::ListMultipartUploads {
                prefix: Some(prefix),
                delimiter: None,
                key_marker: after.map(|after| after.key.clone()),
                upload_id_marker: after.and_then(|after| after.upload_id.clone()),
                max_uploads: Some(limit.clamp(1, LIST_LIMIT)),
            };
            let root = "ListMultipartUploadsResult";
            self.control_document(LIST_UPLOADS, &self.0.bucket, "/", command, root)
        };
        let page: ListMultipartUploadsResult = self.signed(attempt).await?;
        let uploads = page.uploads;
        let next = match (page.is_truncated, uploads.last()) {
            (false, _) => None,
            // SeaweedFS names only the upload.
            (true, Some(last)) => Some(UploadMarker {
                key: page.next_key_marker.filter(|key| !key.is_empty()).unwrap_or_else(|| last.key.clone()),
                upload_id: page.next_upload_id_marker.or_else(|| Some(last.upload_id.as_str().to_owned())),
            }),
            (true, None) => {
                return Err(self.protocol(LIST_UPLOADS, "the response has no start of the next page"));
            }
        };
        // A store that ignores the markers would send the same page forever.
        if next.is_some() && next.as_ref() == after {
            return Err(self.protocol(LIST_UPLOADS, "the next page starts where this one does"));
        }
        Ok(UploadPage { uploads, next })
    }
}
