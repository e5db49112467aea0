//! Objects in archive classes: requesting a restore (S3 `RestoreObject`), and its state.

use chrono::{DateTime, Utc};
use reqwest::header::HeaderMap;
use serde::Serialize;

use super::object::read_text;
use super::options::RESTORE;
use super::{ObjectKey, Store, StoreError, sign};

const OPERATION: &str = "RestoreObject";

/// Whether objects of this storage class cannot be read without a restore.
pub fn is_archive_class(class: &str) -> bool {
    matches!(class, "GLACIER" | "DEEP_ARCHIVE")
}

/// The state of the restored copy of an archived object (`x-amz-restore`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreStatus {
    /// In progress.
    InProgress,
    /// Available until then.
    Restored {
        /// Expiry; `None` if the store does not report it.
        until: Option<DateTime<Utc>>,
    },
}

/// The response to a restore request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestoreAnswer {
    /// The restore has started.
    Accepted,
    /// The restore is already in progress.
    InProgress,
    /// The restored copy is already available, and its lifetime was extended.
    Restored,
    /// The object is not in an archive class.
    NotArchived,
}

#[derive(Serialize)]
#[serde(rename = "RestoreRequest")]
struct RestoreRequest<'a> {
    #[serde(rename = "Days")]
    days: u32,
    #[serde(rename = "GlacierJobParameters")]
    parameters: JobParameters<'a>,
}

#[derive(Serialize)]
struct JobParameters<'a> {
    #[serde(rename = "Tier")]
    tier: &'a str,
}

impl Store {
    /// Requests a copy of an archived object that can be read for `days`, made at the speed of `tier` (`Standard`,
    /// `Bulk`, `Expedited`). Idempotent.
    pub async fn restore(&self, key: &ObjectKey, days: u32, tier: &str) -> Result<RestoreAnswer, StoreError> {
        let request = RestoreRequest { days, parameters: JobParameters { tier } };
        let document = quick_xml::se::to_string(&request).map_err(|error| self.invalid(OPERATION, &error))?;
        let deadline = self.settings().deadlines.control;
        let attempt = async || {
            let signing = sign::restore(&self.0.bucket, key.as_str(), document.clone());
            let request = signing.await.map_err(|error| self.invalid(OPERATION, &error))?;
            self.execute(OPERATION, request, deadline).await
        };
        match self.signed(attempt).await {
            Ok(response) if response.status() == reqwest::StatusCode::ACCEPTED => Ok(RestoreAnswer::Accepted),
            Ok(_) => Ok(RestoreAnswer::Restored),
            Err(error) if error.code() == Some("RestoreAlreadyInProgress") => Ok(RestoreAnswer::InProgress),
            // In response to a restore request, this means that there is nothing to restore.
            Err(error) if error.is_archived() => Ok(RestoreAnswer::NotArchived),
            Err(error) => Err(error),
        }
    }
}

/// `x-amz-restore: ongoing-request="false", expiry-date="Fri, 21 Dec 2012 00:00:00 GMT"`.
pub(super) fn read_restore(headers: &HeaderMap) -> Option<RestoreStatus> {
    let text = read_text(headers, &RESTORE)?;
    let value = |name: &str| {
        let (_, rest) = text.split_once(&format!("{name}=\""))?;
        rest.split_once('"').map(|(value, _)| value.to_owned())
    };
    if value("ongoing-request")? == "true" {
        return Some(RestoreStatus::InProgress);
    }
    let until = value("expiry-date").and_then(|date| DateTime::parse_from_rfc2822(&date).ok());
    Some(RestoreStatus::Restored { until: until.map(|until| until.to_utc()) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn the_header_is_read_as_s3_writes_it() {
        let read = |text: &'static str| {
            read_restore(&HeaderMap::from_iter([(RESTORE, HeaderValue::from_static(text))]))
        };
        assert_eq!(read("ongoing-request=\"true\""), Some(RestoreStatus::InProgress));
        let Some(RestoreStatus::Restored { until: Some(until) }) =
            read("ongoing-request=\"false\", expiry-date=\"Fri, 21 Dec 2012 00:00:00 GMT\"")
        else {
            panic!("not read")
        };
        assert_eq!(until.to_rfc3339(), "2012-12-21T00:00:00+00:00");
        assert_eq!(read("ongoing-request=\"false\""), Some(RestoreStatus::Restored { until: None }));
        assert_eq!(read("nonsense"), None);
        assert_eq!(read_restore(&HeaderMap::new()), None);
    }

    #[test]
    fn the_request_is_what_s3_documents() {
        let request = RestoreRequest { days: 7, parameters: JobParameters { tier: "Bulk" } };
        assert_eq!(
            quick_xml::se::to_string(&request).unwrap(),
            "<RestoreRequest><Days>7</Days><GlacierJobParameters><Tier>Bulk</Tier></GlacierJobParameters></RestoreRequest>"
        );
    }
}
