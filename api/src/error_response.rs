//! The one place where the domain's errors meet HTTP: which status, which code, which words a client gets to see.
//! Causes of 5xx answers go to the log, never to the client; the body is written by the middleware, which knows the
//! request's id.

use std::fmt;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use nightferry_core::error::{Error, FieldError};

/// After this a client may try again when the cause names no time of its own.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What a handler fails with: an outcome of the domain, or one that only HTTP knows.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The domain's.
    Domain(Error),
    /// The route exists, but not with this method. Holds those that it has.
    MethodNotAllowed(&'static str),
    /// The body of a request that carries no file is larger than this many bytes.
    BodyTooLarge(usize),
    /// A request that cookies speak for comes from somebody else's page.
    CrossSite,
    /// The request's body is not of the media type that is wanted.
    MediaType(&'static str),
}

/// Shorthand for handlers.
pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

impl From<Error> for ApiError {
    fn from(error: Error) -> Self {
        Self::Domain(error)
    }
}

impl ApiError {
    /// One refused field.
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Domain(Error::field(field, message))
    }

    /// A request that makes no sense as a whole.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::Domain(Error::BadRequest(detail.into()))
    }

    /// The status, and the stable name for programs.
    pub(crate) fn outcome(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Domain(error) => domain_outcome(error),
            Self::MethodNotAllowed(_) => (StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "FILE_TOO_LARGE"),
            Self::CrossSite => (StatusCode::FORBIDDEN, "CSRF_REJECTED"),
            Self::MediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "TYPE_NOT_ALLOWED"),
        }
    }

    /// A sentence for people. What is behind a 5xx is not told.
    pub(crate) fn detail(&self) -> String {
        match self.outcome() {
            (_, "INTERNAL") => {
                "Something went wrong in the service. The request id tells the operator where to look."
                    .to_owned()
            }
            (_, "PROVIDER_ERROR") => {
                "The sign-in provider did not do what was asked. Try again; if it stays so, tell the operator.".to_owned()
            }
            (_, "STORE_ERROR") => {
                "A store did not do what was asked. Try again; if it stays so, tell the operator.".to_owned()
            }
            (_, "STORE_UNAVAILABLE") if !matches!(self, Self::Domain(Error::UploadsBusy { .. })) => {
                "The storage cannot be reached at the moment. Try again shortly.".to_owned()
            }
            (_, "DATABASE_UNAVAILABLE") => {
                "The service's database cannot be reached at the moment. Try again shortly.".to_owned()
            }
            _ => self.to_string(),
        }
    }

    /// The fields that were refused.
    pub(crate) fn fields(&self) -> &[FieldError] {
        match self {
            Self::Domain(Error::Validation(fields) | Error::PlanChanged { changes: fields, .. }) => fields,
            _ => &[],
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        let (status, _) = self.outcome();
        if status != StatusCode::SERVICE_UNAVAILABLE && status != StatusCode::TOO_MANY_REQUESTS {
            return None;
        }
        Some(match self {
            Self::Domain(Error::StoreUnavailable { retry_after } | Error::UploadsBusy { retry_after }) => {
                *retry_after
            }
            // Rounded up: who comes back when he was told to gets in.
            Self::Domain(Error::RateLimited { retry_after }) => {
                Duration::from_secs(retry_after.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
            }
            Self::Domain(Error::Store(error)) => error.retry_after().unwrap_or(RETRY_AFTER),
            _ => RETRY_AFTER,
        })
    }
}

/// Every outcome of the domain, by name: a new one does not compile until it is decided here what clients see.
fn domain_outcome(error: &Error) -> (StatusCode, &'static str) {
    match error {
        Error::Validation(_) => (StatusCode::BAD_REQUEST, "VALIDATION_FAILED"),
        Error::BadRequest(_) => (StatusCode::BAD_REQUEST, "BAD_REQUEST"),
        Error::Unauthenticated => (StatusCode::UNAUTHORIZED, "UNAUTHENTICATED"),
        Error::InvalidCredentials | Error::SignInRefused(_) => {
            (StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS")
        }
        Error::Provider(_) => (StatusCode::BAD_GATEWAY, "PROVIDER_ERROR"),
        Error::TokenExpired => (StatusCode::UNAUTHORIZED, "TOKEN_EXPIRED"),
        Error::TokenRevoked => (StatusCode::UNAUTHORIZED, "TOKEN_REVOKED"),
        Error::RefreshReused => (StatusCode::UNAUTHORIZED, "REFRESH_REUSED"),
        Error::RateLimited { .. } => (StatusCode::TOO_MANY_REQUESTS, "RATE_LIMITED"),
        Error::Forbidden(_) => (StatusCode::FORBIDDEN, "FORBIDDEN"),
        Error::NotFound(_) | Error::NoSuch { .. } => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        Error::EmailTaken => (StatusCode::CONFLICT, "EMAIL_TAKEN"),
        Error::NameTaken(_) => (StatusCode::CONFLICT, "NAME_TAKEN"),
        // A download answers 202 with the restore instead.
        Error::Conflict(_) | Error::PlanChanged { .. } | Error::Archived(_) => {
            (StatusCode::CONFLICT, "CONFLICT")
        }
        Error::SyncAlreadyRunning(_) => (StatusCode::CONFLICT, "SYNC_ALREADY_RUNNING"),
        Error::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, "PRECONDITION_FAILED"),
        Error::FileTooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "FILE_TOO_LARGE"),
        Error::QuotaExceeded { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "QUOTA_EXCEEDED"),
        Error::RangeNotSatisfiable { .. } => (StatusCode::RANGE_NOT_SATISFIABLE, "RANGE_NOT_SATISFIABLE"),
        Error::ChecksumMismatch { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "CHECKSUM_MISMATCH"),
        Error::Store(error) if error.is_outage() => (StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE"),
        Error::Store(_) => (StatusCode::BAD_GATEWAY, "STORE_ERROR"),
        Error::StoreUnavailable { .. } | Error::UploadsBusy { .. } | Error::NoLocalStore => {
            (StatusCode::SERVICE_UNAVAILABLE, "STORE_UNAVAILABLE")
        }
        Error::DatabaseUnavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "DATABASE_UNAVAILABLE"),
        Error::Database(_) | Error::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL"),
    }
}

/// The code of an error that actix itself raised, of which only the status is known.
pub(crate) fn code_of_status(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "UNAUTHENTICATED",
        StatusCode::FORBIDDEN => "FORBIDDEN",
        StatusCode::NOT_FOUND => "NOT_FOUND",
        StatusCode::METHOD_NOT_ALLOWED => "METHOD_NOT_ALLOWED",
        StatusCode::PAYLOAD_TOO_LARGE => "FILE_TOO_LARGE",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "TYPE_NOT_ALLOWED",
        status if status.is_client_error() => "BAD_REQUEST",
        _ => "INTERNAL",
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(error) => error.fmt(f),
            Self::MethodNotAllowed(allowed) => write!(f, "This address takes {allowed} only."),
            Self::BodyTooLarge(limit) => write!(f, "The request's body has more than {limit} bytes."),
            Self::CrossSite => f.write_str(
                "This request uses the session's cookies but does not come from a page of this service. A program sends \
                 `Authorization: Bearer`, or says with `Origin` whose page it is.",
            ),
            Self::MediaType(wanted) => {
                write!(f, "The request's body must be {wanted}, and its Content-Type must say so.")
            }
        }
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.outcome().0
    }

    fn error_response(&self) -> HttpResponse {
        let (status, code) = self.outcome();
        let mut response = HttpResponse::new(status);
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750 section 3: the reason is only named for a token that was presented.
            let challenge = match code {
                "TOKEN_EXPIRED" | "TOKEN_REVOKED" => "Bearer error=\"invalid_token\"",
                _ => "Bearer",
            };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        if let Some(after) = self.retry_after() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        match self {
            Self::MethodNotAllowed(allowed) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allowed));
            }
            Self::Domain(Error::RangeNotSatisfiable { size }) => {
                if let Ok(range) = HeaderValue::try_from(format!("bytes */{size}")) {
                    headers.insert(header::CONTENT_RANGE, range);
                }
            }
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use nightferry_core::ids::RunId;

    use super::*;

    #[test]
    fn every_error_has_the_status_and_code_of_the_contract() {
        let table: Vec<(Error, u16, &str)> = vec![
            (Error::field("a", "b"), 400, "VALIDATION_FAILED"),
            (Error::BadRequest("x".to_owned()), 400, "BAD_REQUEST"),
            (Error::Unauthenticated, 401, "UNAUTHENTICATED"),
            (Error::InvalidCredentials, 401, "INVALID_CREDENTIALS"),
            (Error::SignInRefused("x"), 401, "INVALID_CREDENTIALS"),
            (Error::Provider("x".to_owned()), 502, "PROVIDER_ERROR"),
            (Error::TokenExpired, 401, "TOKEN_EXPIRED"),
            (Error::TokenRevoked, 401, "TOKEN_REVOKED"),
            (Error::RefreshReused, 401, "REFRESH_REUSED"),
            (Error::Forbidden("x"), 403, "FORBIDDEN"),
            (Error::NotFound("file"), 404, "NOT_FOUND"),
            (Error::EmailTaken, 409, "EMAIL_TAKEN"),
            (Error::NameTaken("x".to_owned()), 409, "NAME_TAKEN"),
            (Error::Conflict("x".to_owned()), 409, "CONFLICT"),
            (Error::SyncAlreadyRunning(RunId::new()), 409, "SYNC_ALREADY_RUNNING"),
            (Error::PlanChanged { reason: String::new(), changes: Vec::new() }, 409, "CONFLICT"),
            (Error::PreconditionFailed, 412, "PRECONDITION_FAILED"),
            (Error::FileTooLarge { limit: 1 }, 413, "FILE_TOO_LARGE"),
            (Error::QuotaExceeded { quota: 1, used: 1 }, 413, "QUOTA_EXCEEDED"),
            (Error::RangeNotSatisfiable { size: 1 }, 416, "RANGE_NOT_SATISFIABLE"),
            (
                Error::ChecksumMismatch { expected: String::new(), actual: String::new() },
                422,
                "CHECKSUM_MISMATCH",
            ),
            (Error::StoreUnavailable { retry_after: Duration::from_secs(9) }, 503, "STORE_UNAVAILABLE"),
            (Error::NoLocalStore, 503, "STORE_UNAVAILABLE"),
            (Error::DatabaseUnavailable("x".to_owned()), 503, "DATABASE_UNAVAILABLE"),
            (Error::Internal("x".to_owned()), 500, "INTERNAL"),
        ];
        for (error, status, code) in table {
            let error = ApiError::from(error);
            assert_eq!(error.outcome(), (StatusCode::from_u16(status).unwrap(), code));
        }
    }

    #[test]
    fn causes_of_server_errors_are_not_told() {
        for error in [Error::Internal("secret".to_owned()), Error::DatabaseUnavailable("secret".to_owned())] {
            assert!(!ApiError::from(error).detail().contains("secret"));
        }
    }

    #[test]
    fn answers_carry_the_headers_that_their_status_wants() {
        let header = |error: ApiError, name: header::HeaderName| {
            error.error_response().headers().get(name).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(header(Error::Unauthenticated.into(), header::WWW_AUTHENTICATE).unwrap(), "Bearer");
        let away = Error::StoreUnavailable { retry_after: Duration::from_secs(9) };
        assert_eq!(header(away.into(), header::RETRY_AFTER).unwrap(), "9");
        let down = Error::DatabaseUnavailable(String::new());
        assert_eq!(header(down.into(), header::RETRY_AFTER).unwrap(), "5");
        let range = Error::RangeNotSatisfiable { size: 7 };
        assert_eq!(header(range.into(), header::CONTENT_RANGE).unwrap(), "bytes */7");
        assert_eq!(header(ApiError::MethodNotAllowed("GET, HEAD"), header::ALLOW).unwrap(), "GET, HEAD");
        assert_eq!(header(Error::NotFound("file").into(), header::RETRY_AFTER), None);
    }
}
