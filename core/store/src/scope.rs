//! The scope of an error: one object, the objects under a prefix, the whole store, or this process. Callers decide by
//! it what has to wait: one copy, or all copies to a store. Based on S3 error codes and HTTP statuses, like
//! [`super::error`].

use std::fmt;

use super::error::CLOCK_SKEW;
use super::{StoreError, StoreErrorKind};

/// How much an error concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only the object of the request.
    Object,
    /// The object, and possibly all with the same beginning of the key: permissions are granted by key patterns. Only a
    /// request for a neutral key shows whether the whole store refuses.
    Prefix,
    /// Every request to the store.
    Store,
    /// This process, or what it reads from: not the store.
    Process,
}

/// A state of a whole store in which it refuses requests, and which passes by itself or after a change outside of
/// Nightferry. The same request succeeds afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// The clocks of this machine and of the store differ too much.
    ClockSkew,
    /// The store limits the rate of requests.
    Throttled,
    /// The storage or the quota of the bucket is used up.
    Quota,
    /// The bucket is served elsewhere, for example because it is new and its name is not known everywhere yet.
    Redirect,
}

impl Condition {
    /// The name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ClockSkew => "clock_skew",
            Self::Throttled => "throttled",
            Self::Quota => "quota",
            Self::Redirect => "redirect",
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl StoreError {
    /// The condition of the whole store that caused the error, if the response names one.
    pub fn condition(&self) -> Option<Condition> {
        match self.kind() {
            StoreErrorKind::Answer { status, code } => condition_of(*status, code),
            _ => None,
        }
    }

    /// Whether the store denies access. By itself, this concerns only the object: a request for a neutral key shows
    /// whether the store refuses everything. A response to HEAD has no code.
    pub fn is_denied(&self) -> bool {
        matches!(self.kind(), StoreErrorKind::Answer { status, code }
            if code == "AccessDenied" || (*status == 403 && code.is_empty()))
    }

    /// Whether the failed request was to change something in the store.
    pub fn is_write(&self) -> bool {
        !["Get", "Head", "List"].iter().any(|reading| self.operation().starts_with(*reading))
    }

    /// Whether the store is temporarily unable to handle requests (HTTP status 503), which may concern everything or
    /// one object.
    pub fn is_unavailable(&self) -> bool {
        matches!(self.kind(), StoreErrorKind::Answer { status: 503, .. })
    }

    /// How much the error concerns, as far as it shows that by itself.
    pub fn scope(&self) -> Scope {
        if self.condition().is_some() || self.is_credentials() || self.is_outage() {
            return Scope::Store;
        }
        match self.kind() {
            _ if self.is_denied() => Scope::Prefix,
            StoreErrorKind::Source(source) => {
                source.downcast_ref::<Self>().map_or(Scope::Process, Self::scope)
            }
            _ => Scope::Object,
        }
    }
}

/// The condition that a response names by its S3 error code, or else by its status.
pub(super) fn condition_of(status: u16, code: &str) -> Option<Condition> {
    match code {
        CLOCK_SKEW => Some(Condition::ClockSkew),
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "Throttling"
        | "ThrottlingException"
        | "BandwidthLimitExceeded" => Some(Condition::Throttled),
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" => {
            Some(Condition::Quota)
        }
        "PermanentRedirect" | "TemporaryRedirect" | "Redirect" => Some(Condition::Redirect),
        _ => match status {
            429 => Some(Condition::Throttled),
            507 => Some(Condition::Quota),
            301 | 302 | 303 | 307 | 308 => Some(Condition::Redirect),
            _ => None,
        },
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
    fn every_error_has_a_scope() {
        for (status, code, scope) in [
            (403, "AccessDenied", Scope::Prefix),
            (403, "", Scope::Prefix),
            (403, "InvalidAccessKeyId", Scope::Store),
            (403, "ExpiredToken", Scope::Store),
            (404, "NoSuchBucket", Scope::Store),
            (403, "RequestTimeTooSkewed", Scope::Store),
            (503, "SlowDown", Scope::Store),
            (307, "TemporaryRedirect", Scope::Store),
            (500, "InternalError", Scope::Store),
            (404, "NoSuchKey", Scope::Object),
            (403, "InvalidObjectState", Scope::Object),
            (400, "EntityTooSmall", Scope::Object),
        ] {
            assert_eq!(answer(status, code).scope(), scope, "{status} {code}");
        }
        let source = StoreErrorKind::Source(Box::new(answer(403, "AccessDenied")));
        assert_eq!(StoreError::new(&"s3".parse().unwrap(), "PutObject", source, "").scope(), Scope::Prefix);
    }

    #[test]
    fn reads_are_distinguished_from_writes() {
        let failed = |operation| {
            StoreError::new(&"s3".parse().unwrap(), operation, StoreErrorKind::Timeout, "").is_write()
        };
        assert!(failed("PutObject") && failed("UploadPart") && failed("AbortMultipartUpload"));
        assert!(!failed("GetObject") && !failed("HeadObject") && !failed("ListObjectsV2"));
    }

    #[test]
    fn conditions_of_the_whole_store_are_recognised_by_code_or_status() {
        for (status, code, condition) in [
            (403, "RequestTimeTooSkewed", Some(Condition::ClockSkew)),
            (503, "SlowDown", Some(Condition::Throttled)),
            (429, "", Some(Condition::Throttled)),
            (503, "", None),
            (403, "QuotaExceeded", Some(Condition::Quota)),
            (507, "XMinioStorageFull", Some(Condition::Quota)),
            (507, "", Some(Condition::Quota)),
            (301, "PermanentRedirect", Some(Condition::Redirect)),
            (307, "TemporaryRedirect", Some(Condition::Redirect)),
            (307, "", Some(Condition::Redirect)),
            (403, "AccessDenied", None),
            (500, "InternalError", None),
        ] {
            assert_eq!(answer(status, code).condition(), condition, "{status} {code}");
        }
    }
}
