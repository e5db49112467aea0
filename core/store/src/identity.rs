//! The identity of a store: a marker object with a UUID in its bucket. Also whether the bucket keeps versions.

use bytes::Bytes;
use futures_util::StreamExt as _;
use reqwest::header::{HeaderValue, IF_NONE_MATCH};
use uuid::Uuid;

use super::xml::{self, VersioningConfiguration};
use super::{Body, ObjectKey, PutOptions, Store, StoreError, StoreErrorKind, Verdict, sign};
use crate::checksum::Sha256;

const GET: &str = "GetObject";
const PUT: &str = "PutObject";
const VERSIONING: &str = "GetBucketVersioning";

/// The first line of a marker, for whoever finds it in a bucket; the UUID follows.
const HEADING: &str = "The identity of this store of Nightferry. Do not delete or copy it.\n";

/// Longer content is not a marker.
const LIMIT: usize = 1024;

impl Store {
    /// The UUID in the marker of the bucket; `None` if the bucket has no marker.
    pub async fn identity(&self) -> Result<Option<Uuid>, StoreError> {
        let mut body = match self.get(&ObjectKey::of_identity(), None).await {
            Err(error) if error.verdict() == Verdict::SourceMissing => return Ok(None),
            found => found?.body,
        };
        let mut content = Vec::new();
        while let Some(chunk) = body.next().await {
            content.extend_from_slice(&chunk?);
            if content.len() > LIMIT {
                break;
            }
        }
        match parse(&content) {
            Some(id) => Ok(Some(id)),
            None => Err(self.protocol(GET, format!("{} has no valid content", ObjectKey::of_identity()))),
        }
    }

    /// Writes the marker. Never replaces an existing one if the store supports conditional writes: read it afterwards
    /// to see which one counts.
    pub async fn write_identity(&self, id: Uuid) -> Result<(), StoreError> {
        let key = ObjectKey::of_identity();
        let content = Bytes::from(format!("{HEADING}{id}\n"));
        let options = PutOptions {
            content_type: Some("text/plain".to_owned()),
            sha256: Some(Sha256::of(&content)),
            // The marker must be readable at any time: the storage class of the files may be an archive.
            storage_class: self.settings().storage_class.as_ref().map(|_| "STANDARD".to_owned()),
            ..PutOptions::default()
        };
        let status = |error: &StoreError| match error.kind() {
            StoreErrorKind::Answer { status, .. } => *status,
            _ => 0,
        };
        match self.put_if_absent(&key, &content, &options).await {
            // Another process was faster.
            Err(error) if matches!(status(&error), 409 | 412) => Ok(()),
            // The store has no conditional writes.
            Err(error) if status(&error) == 501 => {
                self.put(&key, Body::from(content), &options).await.map(|_| ())
            }
            result => result,
        }
    }

    async fn put_if_absent(
        &self,
        key: &ObjectKey,
        content: &Bytes,
        options: &PutOptions,
    ) -> Result<(), StoreError> {
        let mut headers = self.put_headers(options)?;
        options.add_checksum(&mut headers).map_err(|error| self.invalid(PUT, &error))?;
        headers.insert(IF_NONE_MATCH, HeaderValue::from_static("*"));
        let attempt = async || {
            let signing = sign::put(&self.0.bucket, key.as_str(), None, headers.clone(), None);
            let request = signing.await.map_err(|error| self.invalid(PUT, &error))?;
            self.send_body(PUT, request, Body::from(content.clone())).await
        };
        self.signed(attempt).await.map(|_| ())
    }

    /// Whether the bucket keeps a version of each deleted object, so that a deletion frees no space.
    pub async fn keeps_versions(&self) -> Result<bool, StoreError> {
        let deadline = self.settings().deadlines.control;
        let attempt = async || {
            let signing = sign::versioning(&self.0.bucket).await;
            let request = signing.map_err(|error| self.invalid(VERSIONING, &error))?;
            let response = self.execute(VERSIONING, request, deadline).await?;
            self.read_document(VERSIONING, response, deadline).await
        };
        let document = self.signed(attempt).await?;
        let versioning: VersioningConfiguration = xml::read("VersioningConfiguration", &document)
            .map_err(|detail| self.protocol(VERSIONING, detail))?;
        Ok(versioning.status == "Enabled")
    }
}

fn parse(content: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(content).ok()?;
    Uuid::try_parse(text.strip_prefix(HEADING)?.trim_end()).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_a_whole_marker_is_an_identity() {
        let id = Uuid::from_u128(7);
        assert_eq!(parse(format!("{HEADING}{id}\n").as_bytes()), Some(id));
        for wrong in [String::new(), id.to_string(), HEADING.to_owned(), format!("{HEADING}{id} {id}")] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong:?}");
        }
    }
}
