//! Errors of a store, and the only place that classifies them.
//!
//! Callers use [`StoreError::verdict`] and its companions; none of them examines a status code. Classification is based
//! on S3 error codes, HTTP statuses and error types, never on the text of a message.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use nightferry_ground::error_code::ErrorCode;

use super::StoreName;
use super::scope::condition_of;
use crate::retry::Retry;

/// The only status above 500 that is not transient: the server lacks a feature.
const NOT_IMPLEMENTED: u16 = 501;

/// The status for missing items: the error document of S3 names the missing item.
const NOT_FOUND: u16 = 404;

/// The S3 code for a request whose time differs too much from that of the store.
pub(super) const CLOCK_SKEW: &str = "RequestTimeTooSkewed";

/// An error of any type, raised by the producer of a body.
pub type BoxError = Box<dyn Error + Send + Sync + 'static>;

/// A failed store operation.
#[derive(Debug)]
pub struct StoreError {
    store: StoreName,
    operation: &'static str,
    kind: StoreErrorKind,
    detail: String,
    retry_after: Option<Duration>,
}

/// The kind of failure.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// No connection: refused, name not found, TLS error.
    Connect,
    /// The store did not respond, or transferred no byte, within the timeout.
    Timeout,
    /// The connection was closed during the request.
    Connection,
    /// A body ended before its announced length.
    Truncated,
    /// The store returned an error; `code` is S3's `Code`, empty if the response had none.
    Answer {
        /// HTTP status.
        status: u16,
        /// S3 error code.
        code: String,
    },
    /// The store acknowledged different content than was sent.
    Mismatch,
    /// The store returned success, but not in the form of S3.
    Protocol,
    /// The request cannot be built from these settings or arguments.
    Invalid,
    /// The object is encrypted, and the key is not configured or a different one. Its content may be intact.
    KeyMissing,
    /// The object is encrypted, and its content is not authentic.
    Unauthentic,
    /// The producer of the body failed; the store is not at fault.
    Source(BoxError),
}

/// The classification of an error for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Transient: a later retry may succeed.
    Transient,
    /// Permanent: a retry will not succeed without a change.
    Permanent,
    /// The object to read does not exist.
    SourceMissing,
    /// The content is corrupt.
    Corrupt,
}

impl StoreError {
    /// An error of `store` in an operation, named as in S3.
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

    /// The store.
    pub fn store(&self) -> &StoreName {
        &self.store
    }

    /// The S3 name of the failed operation.
    pub fn operation(&self) -> &'static str {
        self.operation
    }

    /// The kind of failure.
    pub fn kind(&self) -> &StoreErrorKind {
        &self.kind
    }

    /// The S3 error code, if the store returned one.
    pub fn code(&self) -> Option<&str> {
        match &self.kind {
            StoreErrorKind::Answer { code, .. } if !code.is_empty() => Some(code),
            _ => None,
        }
    }

    /// The `Retry-After` of the store (RFC 9110 section 10.2.3).
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// The classification of the error. A failed source determines its own.
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

    /// The error code of the failure.
    pub fn outcome(&self) -> ErrorCode {
        if self.is_outage() { ErrorCode::StoreUnavailable } else { ErrorCode::StoreError }
    }

    /// Whether the store as a whole seems to be down: unreachable, silent, returning 5xx, represented by another server,
    /// or with another time than this machine. Never true for a failed source.
    pub fn is_outage(&self) -> bool {
        match &self.kind {
            StoreErrorKind::Connect | StoreErrorKind::Timeout | StoreErrorKind::Connection => true,
            StoreErrorKind::Answer { status, code } => {
                *status == 429
                    || code == CLOCK_SKEW
                    || (*status >= 500 && *status != NOT_IMPLEMENTED)
                    || (*status == NOT_FOUND && code.is_empty())
            }
            _ => false,
        }
    }

    /// Whether the store rejects all requests until its settings are fixed: credentials, bucket, region. Denied access to
    /// one object is not included: see [`StoreError::is_denied`].
    pub fn is_credentials(&self) -> bool {
        match &self.kind {
            StoreErrorKind::Answer { status, code } if code.is_empty() => *status == 401,
            StoreErrorKind::Answer { code, .. } => is_configuration_code(code),
            _ => false,
        }
    }

    /// Whether the multipart upload does not exist: aborted, or completed by a request whose response was lost.
    pub fn is_no_such_upload(&self) -> bool {
        self.code() == Some("NoSuchUpload")
    }

    /// Whether the object is archived: it exists, but cannot be read without a restore.
    pub fn is_archived(&self) -> bool {
        self.code() == Some("InvalidObjectState")
    }

    /// Whether the object is encrypted with a key that is not configured. The object itself is fine.
    pub fn is_key_missing(&self) -> bool {
        matches!(self.kind, StoreErrorKind::KeyMissing)
    }

    /// Whether the bucket does not exist.
    pub fn is_no_such_bucket(&self) -> bool {
        self.code() == Some("NoSuchBucket")
    }

    /// Whether the store rejected the request because of clock skew.
    pub(super) fn is_clock_skew(&self) -> bool {
        self.code() == Some(CLOCK_SKEW)
    }

    /// Whether the producer of the body failed, not this store.
    pub fn is_source(&self) -> bool {
        matches!(self.kind, StoreErrorKind::Source(_))
    }

    /// The error of the body's producer, if that failed.
    pub fn into_source(self) -> Result<BoxError, Self> {
        match self.kind {
            StoreErrorKind::Source(source) => Ok(source),
            _ => Err(self),
        }
    }

    /// Advice for the operator.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.kind {
            StoreErrorKind::Connect => Some(
                "check that the store is running and that its endpoint is \
                correct",
            ),
            StoreErrorKind::Answer { status, code } => hint_for(*status, code),
            StoreErrorKind::KeyMissing => Some(
                "add the key to the encryption keys of the store again; without it, this object cannot be \
                    read",
            ),
            _ => None,
        }
    }
}

fn verdict_of_answer(status: u16, code: &str) -> Verdict {
    match code {
        "NoSuchKey" | "NoSuchVersion" => Verdict::SourceMissing,
        // Not from S3 itself: a proxy cannot reach its backend. The object may be intact.
        "" if status == NOT_FOUND => Verdict::Transient,
        "BadDigest" | "InvalidDigest" | "XAmzContentChecksumMismatch" | "XAmzContentSHA256Mismatch" => {
            Verdict::Corrupt
        }
        // It passes, and the same request then succeeds.
        _ if condition_of(status, code).is_some() => Verdict::Transient,
        "RequestTimeout"
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
            | "AllAccessDisabled"
            | "AccountProblem"
            | "NoSuchBucket"
            | "InvalidBucketName"
            | "AuthorizationHeaderMalformed"
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
            "grant this access key s3:ListBucket, s3:GetObject, s3:PutObject, s3:DeleteObject and \
                s3:AbortMultipartUpload on the bucket"
        }
        "NoSuchBucket" => "create the bucket or correct its name",
        "PermanentRedirect" | "AuthorizationHeaderMalformed" => "the bucket is in another region",
        "TemporaryRedirect" | "Redirect" => "the bucket is new: S3 serves it under this name within hours",
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => {
            "the store is full: free space or increase the quota"
        }
        "RequestTimeTooSkewed" => {
            "the clocks of this machine and of the store differ by more than 15 \
            minutes"
        }
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
            Self::Connection => f.write_str("lost the connection"),
            Self::Truncated => f.write_str("ended too early"),
            Self::Answer { status, code } if code.is_empty() => write!(f, "returned HTTP {status}"),
            Self::Answer { status, code } => write!(f, "returned {code} (HTTP {status})"),
            Self::Mismatch => f.write_str("stored other content than was sent"),
            Self::Protocol => f.write_str("returned a response that is not S3"),
            Self::Invalid => f.write_str("is not a valid request"),
            Self::KeyMissing => f.write_str("found an encrypted object whose key is missing"),
            Self::Unauthentic => f.write_str("returned content that cannot be decrypted"),
            Self::Source(source) => write!(f, "failed because its source failed: {source}"),
        }
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.kind {
            // Boxed with auto traits that the signature of `source` omits.
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
    fn every_response_has_a_verdict() {
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
            (403, "QuotaExceeded", Verdict::Transient),
            (301, "PermanentRedirect", Verdict::Transient),
            (307, "TemporaryRedirect", Verdict::Transient),
            (307, "", Verdict::Transient),
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
    fn outages_are_distinguished_from_failures_of_one_object() {
        assert!(answer(403, "SignatureDoesNotMatch").is_credentials());
        assert!(answer(404, "NoSuchBucket").is_credentials());
        assert!(answer(401, "").is_credentials());
        assert!(answer(403, "").is_denied() && !answer(403, "").is_credentials());
        assert!(answer(403, "AccessDenied").is_denied() && !answer(403, "AccessDenied").is_credentials());
        assert!(!answer(403, "RequestTimeTooSkewed").is_credentials());
        assert!(answer(403, "RequestTimeTooSkewed").is_outage());
        assert!(!answer(403, "InvalidObjectState").is_credentials());
        assert!(answer(503, "SlowDown").is_outage());
        assert!(!answer(404, "NoSuchKey").is_outage());
        assert!(answer(404, "").is_outage());
    }

    #[test]
    fn a_failed_source_passes_its_verdict_on() {
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
            "store s3: PutObject returned NoSuchBucket (HTTP 404) (create the bucket or correct its name)"
        );
    }
}
