//! Presigned URLs, with which a client can access the store directly for a limited time.

use std::collections::HashMap;
use std::time::Duration;

use super::multipart::part_queries;
use super::{ObjectKey, Store, StoreError, UploadId};

const PRESIGN: &str = "Presign";

impl Store {
    /// A URL from which a client can download the object for `expires` (1 s to 7 days). `disposition` and
    /// `content_type` become the `Content-Disposition` and `Content-Type` of the response.
    pub async fn presign_get(
        &self,
        key: &ObjectKey,
        expires: Duration,
        disposition: Option<&str>,
        content_type: Option<&str>,
    ) -> Result<String, StoreError> {
        let queries: HashMap<String, String> =
            [("response-content-disposition", disposition), ("response-content-type", content_type)]
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
                .collect();
        let signing = self.0.public_bucket.presign_get(key.as_str(), seconds(expires), Some(queries));
        signing.await.map_err(|error| self.invalid(PRESIGN, &error))
    }

    /// A URL to which a client can PUT part `number` of a multipart upload for `expires` (1 s to 7 days).
    pub async fn presign_part(
        &self,
        key: &ObjectKey,
        upload: &UploadId,
        number: u32,
        expires: Duration,
    ) -> Result<String, StoreError> {
        let queries = part_queries(upload, number);
        let signing = self.0.public_bucket.presign_put(key.as_str(), seconds(expires), None, Some(queries));
        signing.await.map_err(|error| self.invalid(PRESIGN, &error))
    }
}

/// Whole seconds, at least one; more than seven days are rejected when the URL is signed.
fn seconds(expires: Duration) -> u32 {
    u32::try_from(expires.as_secs()).unwrap_or(u32::MAX).max(1)
}
