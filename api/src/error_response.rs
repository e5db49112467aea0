//! The only place where domain errors are mapped to HTTP: status, code and message. The causes of 5xx responses are
//! logged and never sent to the client; the body is written by the middleware, which knows the request id.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderValue};
use actix_web::{HttpResponse, ResponseError};
use nightferry_core::error::{Category, Error, ErrorCode, FieldError};

/// The default value of `Retry-After`.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// The public text of all internal errors.
pub(crate) const INTERNAL: &str = "An internal error occurred. Give the request id to the operator.";

/// The error type of handlers: a domain error, or one that exists only in HTTP.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error(transparent)]
    Domain(#[from] Error),
    /// The route exists, but not with this method. Contains the supported methods.
    #[error("This address supports only {0}.")]
    MethodNotAllowed(&'static str),
    /// The body of a request without a file is larger than this number of bytes.
    #[error("The request body exceeds {0} bytes.")]
    BodyTooLarge(usize),
    /// A request that is authenticated by cookie comes from another site.
    #[error(
        "This request is authenticated by cookie but does not come from a page of this service. Programs \
         must send `Authorization: Bearer`, or an `Origin` header."
    )]
    CrossSite,
    /// The media type of the body is not supported.
    #[error("The request body must be {0}, with a matching Content-Type.")]
    MediaType(&'static str),
}

pub(crate) type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    pub(crate) fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Domain(Error::field(field, message))
    }

    /// The request is invalid as a whole.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::Domain(Error::BadRequest(detail.into()))
    }

    /// The error code.
    pub(crate) fn code(&self) -> ErrorCode {
        match self {
            Self::Domain(error) => error.code(),
            Self::MethodNotAllowed(_) => ErrorCode::MethodNotAllowed,
            Self::BodyTooLarge(_) => ErrorCode::FileTooLarge,
            Self::CrossSite => ErrorCode::CsrfRejected,
            Self::MediaType(_) => ErrorCode::TypeNotAllowed,
        }
    }

    /// A message for humans. The cause of a 5xx is not included.
    pub(crate) fn detail(&self) -> String {
        match self.code() {
            ErrorCode::Internal => INTERNAL.to_owned(),
            ErrorCode::ProviderError => {
                "The identity provider returned an error. Try again; if the problem persists, inform the \
                    operator."
                    .to_owned()
            }
            ErrorCode::StoreError => {
                "A store returned an error. Try again; if the problem persists, inform the operator."
                    .to_owned()
            }
            ErrorCode::StoreUnavailable if !matches!(self, Self::Domain(Error::UploadsBusy { .. })) => {
                "The storage is currently unavailable. Try again shortly.".to_owned()
            }
            ErrorCode::DatabaseUnavailable => {
                "The database of the service is currently unavailable. Try again shortly.".to_owned()
            }
            _ => self.to_string(),
        }
    }

    pub(crate) fn fields(&self) -> &[FieldError] {
        match self {
            Self::Domain(Error::Validation(fields) | Error::PlanChanged { changes: fields, .. }) => fields,
            _ => &[],
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        if self.code().category() != Category::Temporary {
            return None;
        }
        Some(match self {
            Self::Domain(Error::StoreUnavailable { retry_after } | Error::UploadsBusy { retry_after }) => {
                *retry_after
            }
            // Rounded up, so that a client that waits this long is accepted.
            Self::Domain(Error::RateLimited { retry_after }) => {
                Duration::from_secs(retry_after.as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX))
            }
            Self::Domain(Error::Store(error)) => error.retry_after().unwrap_or(RETRY_AFTER),
            _ => RETRY_AFTER,
        })
    }
}

pub(crate) const fn status_of(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::ValidationFailed | ErrorCode::BadRequest => StatusCode::BAD_REQUEST,
        ErrorCode::Unauthenticated
        | ErrorCode::InvalidCredentials
        | ErrorCode::TokenExpired
        | ErrorCode::TokenRevoked
        | ErrorCode::RefreshReused => StatusCode::UNAUTHORIZED,
        ErrorCode::Forbidden | ErrorCode::CsrfRejected => StatusCode::FORBIDDEN,
        ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::EmailTaken
        | ErrorCode::NameTaken
        | ErrorCode::Conflict
        | ErrorCode::SyncAlreadyRunning => StatusCode::CONFLICT,
        ErrorCode::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        ErrorCode::FileTooLarge | ErrorCode::QuotaExceeded => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::TypeNotAllowed => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        ErrorCode::RangeNotSatisfiable => StatusCode::RANGE_NOT_SATISFIABLE,
        ErrorCode::ChecksumMismatch => StatusCode::UNPROCESSABLE_ENTITY,
        ErrorCode::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        ErrorCode::StoreError | ErrorCode::ProviderError => StatusCode::BAD_GATEWAY,
        ErrorCode::StoreUnavailable | ErrorCode::DatabaseUnavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The code of an error raised by actix itself, of which only the status is known.
pub(crate) fn code_of_status(status: StatusCode) -> ErrorCode {
    match status {
        StatusCode::UNAUTHORIZED => ErrorCode::Unauthenticated,
        StatusCode::FORBIDDEN => ErrorCode::Forbidden,
        StatusCode::NOT_FOUND => ErrorCode::NotFound,
        StatusCode::METHOD_NOT_ALLOWED => ErrorCode::MethodNotAllowed,
        StatusCode::PAYLOAD_TOO_LARGE => ErrorCode::FileTooLarge,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => ErrorCode::TypeNotAllowed,
        status if status.is_client_error() => ErrorCode::BadRequest,
        _ => ErrorCode::Internal,
    }
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        status_of(self.code())
    }

    fn error_response(&self) -> HttpResponse {
        let (status, code) = (self.status_code(), self.code());
        let mut response = HttpResponse::new(status);
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            // RFC 6750 section 3: the reason is included only if a token was presented.
            let challenge = match code {
                ErrorCode::TokenExpired | ErrorCode::TokenRevoked => "Bearer error=\"invalid_token\"",
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
    use nightferry_core::error::Noun;
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
            (Error::NotFound(Noun::File), 404, "NOT_FOUND"),
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
            assert_eq!((error.status_code().as_u16(), error.code().as_str()), (status, code));
        }
    }

    #[test]
    fn causes_of_server_errors_are_not_revealed() {
        for error in [Error::Internal("secret".to_owned()), Error::DatabaseUnavailable("secret".to_owned())] {
            assert!(!ApiError::from(error).detail().contains("secret"));
        }
    }

    #[test]
    fn responses_have_the_headers_required_by_their_status() {
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
        assert_eq!(header(Error::NotFound(Noun::File).into(), header::RETRY_AFTER), None);
    }
}
