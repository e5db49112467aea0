//! The error type of the domain. Each variant is an outcome that a caller can act on; the causes inside are only for
//! logs. Each has a stable [`ErrorCode`]; the api and cli crates map it to an HTTP status or an exit code.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

pub use nightferry_ground::error_code::{Category, ErrorCode, Noun};

use crate::ids::RunId;
use nightferry_store::{ParseKeyError, StoreError};

/// The result type of domain functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One invalid input field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The name of the field as written by the caller.
    pub field: String,
    /// The error as text.
    pub message: String,
}

impl FieldError {
    /// Creates the error of a field.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// State of the restore of an archived copy, as returned to a caller who waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRestore {
    /// Id.
    pub id: Uuid,
    /// Store that holds the copy.
    pub store: String,
    /// `wanted`, `restoring`, `ready` or `failed`.
    pub state: &'static str,
    /// When the restore was first requested.
    pub requested_at: DateTime<Utc>,
    /// When the copy became readable.
    pub ready_at: Option<DateTime<Utc>>,
    /// Until when the copy is readable.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the state of the restore is checked next; `None` if it is not checked again.
    pub next_check_at: Option<DateTime<Utc>>,
}

/// Every way in which a domain function can fail.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Invalid input fields.
    #[error("{}", validation_text(.0))]
    Validation(Vec<FieldError>),
    /// The request is invalid as a whole.
    #[error("{0}")]
    BadRequest(String),
    /// No valid credentials.
    #[error("Sign in first: the request has no valid access token.")]
    Unauthenticated,
    /// Wrong email or password, or a disabled account: deliberately indistinguishable.
    #[error("The email or the password is wrong.")]
    InvalidCredentials,
    /// The token has expired.
    #[error("The token has expired. Refresh it or sign in again.")]
    TokenExpired,
    /// The token was revoked.
    #[error("The token was revoked. Sign in again.")]
    TokenRevoked,
    /// A refresh token was reused: its whole family has been revoked.
    #[error("This refresh token was used before. All sessions derived from it have ended; sign in again.")]
    RefreshReused,
    /// A sign-in with an identity provider failed.
    #[error("{0}")]
    SignInRefused(&'static str),
    /// An identity provider did not respond correctly.
    #[error("the identity provider failed: {0}")]
    Provider(String),
    /// Too many requests, or too many failed sign-ins.
    #[error("Too many requests. Try again in {} s.", .retry_after.as_secs().max(1))]
    RateLimited {
        /// When to retry.
        retry_after: Duration,
    },
    /// The caller is authenticated but not permitted.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The item does not exist, or the caller may not know that it does.
    #[error("There is no such {0}.")]
    NotFound(Noun),
    /// The item with an id does not exist, or is in the trash.
    #[error("There is no {noun} {id}, or it is in the trash.")]
    NoSuch {
        /// The kind of item.
        noun: Noun,
        /// The id of the item.
        id: Uuid,
    },
    /// An account with this email address exists.
    #[error("An account with this email address already exists.")]
    EmailTaken,
    /// The folder contains a live file with this name.
    #[error("A file named “{0}” already exists in this folder.")]
    NameTaken(String),
    /// The state has changed concurrently.
    #[error("{0}")]
    Conflict(String),
    /// A run is already active.
    #[error("A run is already active ({0}). Wait for it, or cancel it first.")]
    SyncAlreadyRunning(RunId),
    /// A plan that is no longer valid.
    #[error("The plan is no longer valid. {reason}{} Make a new one.", changes_text(.changes))]
    PlanChanged {
        /// The reason, as a sentence.
        reason: String,
        /// The changes, by file id; only the first ones if there are many.
        changes: Vec<FieldError>,
    },
    /// A precondition of the request (such as If-Match) failed.
    #[error("The file does not meet the preconditions of the request.")]
    PreconditionFailed,
    /// The file exceeds the configured limit.
    #[error("The file is larger than the limit of {limit} bytes.")]
    FileTooLarge {
        /// Maximum size in bytes.
        limit: u64,
    },
    /// The account's quota would be exceeded.
    #[error(
        "This upload would exceed your quota of {quota} bytes ({used} used). Delete files or ask for a \
            higher quota."
    )]
    QuotaExceeded {
        /// The quota in bytes.
        quota: i64,
        /// Bytes used.
        used: i64,
    },
    /// The range is not satisfiable (RFC 9110 section 14.4).
    #[error("The range is outside of the file, which has {size} bytes.")]
    RangeNotSatisfiable {
        /// Size of the whole file, in bytes.
        size: u64,
    },
    /// The received content does not match the announced checksum.
    #[error(
        "The SHA-256 of the file is {actual}, but the request announced {expected}. Nothing was stored; \
            send it again."
    )]
    ChecksumMismatch {
        /// As announced by the client, hex.
        expected: String,
        /// Of the received content, hex.
        actual: String,
    },
    /// A store operation failed.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// All copies are archived; one is being restored.
    #[error(
        "The file is archived and must be restored before it can be read. A restore was requested; it \
            takes hours."
    )]
    Archived(Box<PendingRestore>),
    /// No store can serve this now; a retry may succeed.
    #[error("No store with this file is currently reachable.")]
    StoreUnavailable {
        /// When to retry.
        retry_after: Duration,
    },
    /// Other uploads occupy the memory for uploads of unknown length.
    #[error(
        "Too many uploads of unknown length are in progress. Try again shortly, or send a Content-Length: \
         such an upload never waits."
    )]
    UploadsBusy {
        /// When to retry.
        retry_after: Duration,
    },
    /// Every local store is being drained, so that nothing can be written.
    #[error("Nothing can be stored: every local store is being drained. An administrator can stop that.")]
    NoLocalStore,
    /// Postgres is unreachable or did not respond in time.
    #[error("The database is unreachable: {0}")]
    DatabaseUnavailable(String),
    /// A query failed: a bug, or a corrupt database.
    #[error("database query failed: {0}")]
    Database(diesel::result::Error),
    /// Any other internal error.
    #[error("{0}")]
    Internal(String),
}

fn validation_text(fields: &[FieldError]) -> String {
    let parts: Vec<String> = fields.iter().map(|f| format!("{}: {}", f.field, f.message)).collect();
    parts.join("; ")
}

fn changes_text(changes: &[FieldError]) -> String {
    let lines: Vec<String> =
        changes.iter().map(|change| format!(" {} ({}).", change.message, change.field)).collect();
    lines.concat()
}

impl Error {
    /// One invalid field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError::new(field, message)])
    }

    /// The error code of the outcome.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Validation(_) => ErrorCode::ValidationFailed,
            Self::BadRequest(_) => ErrorCode::BadRequest,
            Self::Unauthenticated => ErrorCode::Unauthenticated,
            Self::InvalidCredentials | Self::SignInRefused(_) => ErrorCode::InvalidCredentials,
            Self::TokenExpired => ErrorCode::TokenExpired,
            Self::TokenRevoked => ErrorCode::TokenRevoked,
            Self::RefreshReused => ErrorCode::RefreshReused,
            Self::Provider(_) => ErrorCode::ProviderError,
            Self::RateLimited { .. } => ErrorCode::RateLimited,
            Self::Forbidden(_) => ErrorCode::Forbidden,
            Self::NotFound(_) | Self::NoSuch { .. } => ErrorCode::NotFound,
            Self::EmailTaken => ErrorCode::EmailTaken,
            Self::NameTaken(_) => ErrorCode::NameTaken,
            Self::Conflict(_) | Self::PlanChanged { .. } | Self::Archived(_) => ErrorCode::Conflict,
            Self::SyncAlreadyRunning(_) => ErrorCode::SyncAlreadyRunning,
            Self::PreconditionFailed => ErrorCode::PreconditionFailed,
            Self::FileTooLarge { .. } => ErrorCode::FileTooLarge,
            Self::QuotaExceeded { .. } => ErrorCode::QuotaExceeded,
            Self::RangeNotSatisfiable { .. } => ErrorCode::RangeNotSatisfiable,
            Self::ChecksumMismatch { .. } => ErrorCode::ChecksumMismatch,
            Self::Store(error) => error.outcome(),
            Self::StoreUnavailable { .. } | Self::UploadsBusy { .. } | Self::NoLocalStore => {
                ErrorCode::StoreUnavailable
            }
            Self::DatabaseUnavailable(_) => ErrorCode::DatabaseUnavailable,
            Self::Database(_) | Self::Internal(_) => ErrorCode::Internal,
        }
    }
}

/// A key in the database.
impl From<ParseKeyError> for Error {
    fn from(error: ParseKeyError) -> Self {
        Self::Internal(format!("object key in the database: {error}"))
    }
}

/// The first words of Postgres for SQLSTATE 57P01, 57P02 and 57P03, whose codes are not part of diesel's error: the
/// server has ended the session, or it stops or starts.
const SHUTDOWN_MESSAGES: [&str; 2] = ["terminating connection", "the database system is"];

impl From<diesel::result::Error> for Error {
    /// A state of the server that passes is not a bug: the request can be repeated, on another connection.
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::{DatabaseErrorKind as Kind, Error as Diesel};
        match &error {
            Diesel::DatabaseError(
                Kind::ClosedConnection | Kind::UnableToSendCommand | Kind::ReadOnlyTransaction,
                info,
            ) => Self::DatabaseUnavailable(info.message().to_owned()),
            Diesel::DatabaseError(Kind::Unknown, info)
                if SHUTDOWN_MESSAGES.iter().any(|start| info.message().starts_with(start)) =>
            {
                Self::DatabaseUnavailable(info.message().to_owned())
            }
            Diesel::BrokenTransactionManager => Self::DatabaseUnavailable(error.to_string()),
            _ => Self::Database(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use diesel::result::{DatabaseErrorKind as Kind, Error as Diesel};

    use super::*;

    #[test]
    fn a_state_of_the_database_that_passes_is_an_outage() {
        let code = |kind, message: &str| {
            Error::from(Diesel::DatabaseError(kind, Box::new(message.to_owned()))).code()
        };
        for (kind, message) in [
            (Kind::ReadOnlyTransaction, "cannot execute INSERT in a read-only transaction"),
            (Kind::ReadOnlyTransaction, "cannot execute UPDATE during recovery"),
            (Kind::UnableToSendCommand, "connection closed"),
            (Kind::Unknown, "terminating connection due to administrator command"),
            (Kind::Unknown, "the database system is shutting down"),
        ] {
            assert_eq!(code(kind, message), ErrorCode::DatabaseUnavailable, "{message}");
        }
        let bug = code(Kind::Unknown, "column \"x\" does not exist");
        assert_eq!(bug, ErrorCode::Internal);
    }
}
