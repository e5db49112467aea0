//! What can go wrong with a store, and the one place that decides what it means.
//!
//! Callers act on [`StoreError::verdict`] and its companions; none of them ever looks at a status code. Decisions rest on
//! S3 error codes (protocol names), HTTP statuses and error types, never on the words of a message.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use super::StoreName;
use crate::retry::Retry;

/// The one status above 500 that waiting does not mend: the server lacks a feature.
const NOT_IMPLEMENTED: u16 = 501;

/// The status of what is not there: S3's own says in its document what it is that is missing.
const NOT_FOUND: u16 = 404;

/// S3's code for a request whose time is too far from the store's own.
pub(super) const CLOCK_SKEW: &str = "RequestTimeTooSkewed";

/// An error of any kind, as a body's producer may raise it.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// A failed operation on a store.
#[derive(Debug)]
pub struct StoreError {
    store: StoreName,
    operation: &'static str,
    kind: StoreErrorKind,
    detail: String,
    retry_after: Option<Duration>,
}

/// What went wrong.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// No connection could be made: refused, name not found, TLS failed.
    Connect,
    /// The store did not answer, or moved no byte, within the deadline.
    Timeout,
    /// The connection broke in the middle.
    Connection,
    /// A body ended before the promised length.
    Truncated,
    /// The store answered with an error; `code` is S3's `Code`, empty where the answer had none.
    Answer {
        /// HTTP status.
        status: u16,
        /// S3 error code.
        code: String,
    },
    /// The store acknowledged other bytes than those sent.
    Mismatch,
    /// The store answered success, but in a form that is not S3.
    Protocol,
    /// The request cannot be made from these settings or arguments.
    Invalid,
    /// The object is encrypted, and the key is not configured or another one. Says nothing about its bytes.
    KeyMissing,
    /// The object is encrypted, and its bytes are not those that were encrypted.
    Unauthentic,
    /// The producer of the body failed; the store is not to blame.
    Source(BoxError),
}

/// What an error means for the work that met it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Trying again later may help.
    Transient,
    /// Trying again without a change by somebody will not help.
    Permanent,
    /// The object to be read does not exist.
    SourceMissing,
    /// The bytes are not those that were promised.
    Corrupt,
}

impl StoreError {
    /// An error of `store` in an operation, which is named as S3 names it.
    pub fn new(
        store: &StoreName,
        operation: &'static str,
        kind: StoreErrorKind,
        detail: impl Into<String>,
    ) -> Self {
        Self { store: store.clone(), operation, kind, detail: detail.into(), retry_after: None }
    }

    pub(super) fn with_retry_after(mut self, retry_after: Option<Duration>) -> Self {
        self.retry_after = retry_after;
        self
    }

    /// The store concerned.
    pub fn store(&self) -> &StoreName {
        &self.store
    }

    /// The S3 name of the failed operation.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// What went wrong.
    pub fn kind(&self) -> &StoreErrorKind {
        &self.kind
    }

    /// S3's error code, where the store gave one.
    pub fn code(&self) -> Option<&str> {
        match &self.kind {
            StoreErrorKind::Answer { code, .. } if !code.is_empty() => Some(code),
            _ => None,
        }
    }

    /// How long the store asked to be left alone (`Retry-After`, RFC 9110 section 10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// What the error means for the work that met it. A failed source passes its own verdict on.
    pub fn verdict(&self) -> Verdict {
        match &self.kind {
            StoreErrorKind::Connect
            | StoreErrorKind::Timeout
            | StoreErrorKind::Connection
            | StoreErrorKind::Truncated
            | StoreErrorKind::Protocol => Verdict::Transient,
            StoreErrorKind::Invalid | StoreErrorKind::KeyMissing => Verdict::Permanent,
            StoreErrorKind::Mismatch | StoreErrorKind::Unauthentic => Verdict::Corrupt,
            StoreErrorKind::Source(source) => {
                source.downcast_ref::<Self>().map_or(Verdict::Transient, Self::verdict)
            }
            StoreErrorKind::Answer { status, code } => verdict_of_answer(*status, code),
        }
    }

    /// [`StoreError::verdict`] for [`nightferry_ground::retry::retry`].
    pub fn retry(&self) -> Retry {
        match (self.verdict(), self.retry_after) {
            (Verdict::Transient, Some(pause)) => Retry::AgainAfter(pause),
            (Verdict::Transient, None) => Retry::Again,
            _ => Retry::Stop,
        }
    }

    /// Whether the store as a whole seems to be in trouble: unreachable, silent, answering 5xx, or not answering itself.
    /// Never true for a failed source.
    pub fn is_outage(&self) -> bool {
        match &self.kind {
            StoreErrorKind::Connect | StoreErrorKind::Timeout | StoreErrorKind::Connection => true,
            StoreErrorKind::Answer { status, code } => {
                *status == 429
                    || (*status >= 500 && *status != NOT_IMPLEMENTED)
                    || (*status == NOT_FOUND && code.is_empty())
            }
            _ => false,
        }
    }

    /// Whether the store refuses everything until somebody mends its settings: credentials, permissions, bucket, region.
    pub fn is_credentials(&self) -> bool {
        match &self.kind {
            StoreErrorKind::Answer { status, code } if code.is_empty() => matches!(status, 401 | 403),
            StoreErrorKind::Answer { code, .. } => is_configuration_code(code),
            _ => false,
        }
    }

    /// Whether the multipart upload is unknown to the store: aborted, or completed by a request whose answer was lost.
    pub fn is_no_such_upload(&self) -> bool {
        self.code() == Some("NoSuchUpload")
    }

    /// Whether the object is archived: it exists, and cannot be read before it is restored.
    pub fn is_archived(&self) -> bool {
        self.code() == Some("InvalidObjectState")
    }

    /// Whether the object is encrypted with a key that is not configured. Nothing is wrong with the object.
    pub fn is_key_missing(&self) -> bool {
        matches!(self.kind, StoreErrorKind::KeyMissing)
    }

    /// Whether the bucket does not exist.
    pub fn is_no_such_bucket(&self) -> bool {
        self.code() == Some("NoSuchBucket")
    }

    /// Whether the store refused because the caller's clock and its own are too far apart.
    pub(super) fn is_clock_skew(&self) -> bool {
        self.code() == Some(CLOCK_SKEW)
    }

    /// Whether it was the body's producer that failed, not this store.
    pub fn is_source(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Source(_))
    }

    /// The error that the body's producer raised, if it was that which failed.
    pub fn into_source(self) -> Result<BoxError, Self> {
        match self.kind {
            StoreErrorKind::Source(source) => Ok(source),
            _ => Err(self),
        }
    }

    /// What the operator can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.kind {
            StoreErrorKind::Connect => Some("check that the store is running and that its endpoint is right"),
            StoreErrorKind::Answer { status, code } => hint_for(*status, code),
            StoreErrorKind::KeyMissing => Some(
                "put the key back among the store's encryption keys; without it these bytes cannot be read",
            ),
            _ => None,
        }
    }
}

fn verdict_of_answer(status: u16, code: &str) -> Verdict {
    match code {
        "NoSuchKey" | "NoSuchVersion" => Verdict::SourceMissing,
        // Not S3's own: from a proxy in between, whose backend is away. It proves nothing about the object.
        "" if status == NOT_FOUND => Verdict::Transient,
        "BadDigest" | "InvalidDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch" => {
            Verdict::Corrupt
        }
        "SlowDown"
        | "RequestTimeTooSkewed"
        | "RequestTimeout"
        | "InternalError"
        | "ServiceUnavailable"
        | "OperationAborted"
        | "ConditionalRequestConflict"
        | "IncompleteBody" => Verdict::Transient,
        _ if status == NOT_IMPLEMENTED => Verdict::Permanent,
        _ if matches!(status, 408 | 429) || status >= 500 => Verdict::Transient,
        _ => Verdict::Permanent,
    }
}

fn is_configuration_code(code: &str) -> bool {
    matches!(
        code,
        "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "AccessDenied"
            | "AllAccessDisabled"
            | "AccountProblem"
            | "NoSuchBucket"
            | "InvalidBucketName"
            | "AuthorizationHeaderMalformed"
            | "PermanentRedirect"
    )
}

fn hint_for(status: u16, code: &str) -> Option<&'static str> {
    let hint = match code {
        "InvalidAccessKeyId" => "the store does not know this access key",
        "SignatureDoesNotMatch" => {
            "the secret key is wrong for this access key, or a proxy rewrites requests"
        }
        "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired" => "renew the session token",
        "AccessDenied" | "AllAccessDisabled" => {
            "give this access key s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on the bucket"
        }
        "NoSuchBucket" => "create the bucket or correct its name",
        "PermanentRedirect" | "AuthorizationHeaderMalformed" => "the bucket is in another region",
        "RequestTimeTooSkewed" => "this machine's clock and the store's differ by more than 15 minutes",
        "InvalidObjectState" => "the object is archived and must be restored before it can be read",
        "" if matches!(status, 401 | 403) => "check the access key, the secret key and their permissions",
        _ => return None,
    };
    Some(hint)
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "store {}: {} {}", self.store, self.operation, self.kind)?;
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        if let Some(hint) = self.hint() {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect => f.write_str("could not connect"),
            Self::Timeout => f.write_str("timed out"),
            Self::Connection => f.write_str("lost its connection"),
            Self::Truncated => f.write_str("ended too early"),
            Self::Answer { status, code } if code.is_empty() => write!(f, "was answered HTTP {status}"),
            Self::Answer { status, code } => write!(f, "was answered {code} (HTTP {status})"),
            Self::Mismatch => f.write_str("stored other bytes than were sent"),
            Self::Protocol => f.write_str("was answered in a way that is not S3"),
            Self::Invalid => f.write_str("cannot be requested"),
            Self::KeyMissing => f.write_str("found an encrypted object whose key is missing"),
            Self::Unauthentic => f.write_str("gave bytes that do not decrypt"),
            Self::Source(source) => write!(f, "stopped because its source failed: {source}"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            // Boxed with auto traits that the signature of `source` leaves out.
            StoreErrorKind::Source(source) => Some(&**source),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn answer(status: u16, code: &str) -> StoreError {
        let kind = StoreErrorKind::Answer { status, code: code.to_owned() };
        StoreError::new(&"s3".parse().unwrap(), "PutObject", kind, "")
    }

    #[test]
    fn every_answer_has_its_verdict() {
        for (status, code, verdict) in [
            (500, "InternalError", Verdict::Transient),
            (503, "SlowDown", Verdict::Transient),
            (503, "", Verdict::Transient),
            (429, "TooManyRequests", Verdict::Transient),
            (501, "NotImplemented", Verdict::Permanent),
            (507, "XMinioStorageFull", Verdict::Transient),
            (408, "", Verdict::Transient),
            (400, "RequestTimeout", Verdict::Transient),
            (403, "RequestTimeTooSkewed", Verdict::Transient),
            (403, "AccessDenied", Verdict::Permanent),
            (403, "InvalidObjectState", Verdict::Permanent),
            (404, "NoSuchBucket", Verdict::Permanent),
            (404, "NoSuchUpload", Verdict::Permanent),
            (404, "NoSuchKey", Verdict::SourceMissing),
            (404, "", Verdict::Transient),
            (400, "BadDigest", Verdict::Corrupt),
            (400, "XAmzContentChecksumMismatch", Verdict::Corrupt),
            (400, "XAmzContentSHA256Mismatch", Verdict::Corrupt),
            (400, "InvalidDigest", Verdict::Corrupt),
            (400, "EntityTooSmall", Verdict::Permanent),
        ] {
            assert_eq!(answer(status, code).verdict(), verdict, "{status} {code}");
        }
    }

    #[test]
    fn whole_store_trouble_is_told_from_one_objects_trouble() {
        assert!(answer(403, "SignatureDoesNotMatch").is_credentials());
        assert!(answer(404, "NoSuchBucket").is_credentials());
        assert!(answer(403, "").is_credentials());
        assert!(!answer(403, "RequestTimeTooSkewed").is_credentials());
        assert!(!answer(403, "InvalidObjectState").is_credentials());
        assert!(answer(503, "SlowDown").is_outage());
        assert!(!answer(404, "NoSuchKey").is_outage());
        assert!(answer(404, "").is_outage());
    }

    #[test]
    fn a_failed_source_passes_its_verdict_on_and_blames_nobody_else() {
        let inner = answer(404, "NoSuchKey");
        let outer =
            StoreError::new(&"s3".parse().unwrap(), "PutObject", StoreErrorKind::Source(Box::new(inner)), "");
        assert_eq!(outer.verdict(), Verdict::SourceMissing);
        assert!(outer.is_source() && !outer.is_outage() && !outer.is_credentials());
        assert!(outer.into_source().unwrap().downcast::<StoreError>().is_ok());
    }

    #[test]
    fn the_text_names_store_operation_code_and_fix() {
        assert_eq!(
            answer(404, "NoSuchBucket").to_string(),
            "store s3: PutObject was answered NoSuchBucket (HTTP 404) (create the bucket or correct its name)"
        );
    }
}
