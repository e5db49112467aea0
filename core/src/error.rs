//! The one error type of the domain. Each variant is an outcome a caller can act on; the causes inside are
//! for logs only. Which HTTP status a variant becomes is decided in the api crate, nowhere else.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::ids::RunId;
use crate::store::StoreError;

/// What every fallible domain function returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// One field of the input that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// The field's name as the caller wrote it.
    pub field: String,
    /// What is wrong with it, in words.
    pub message: String,
}

impl FieldError {
    /// Names a field and what is wrong with it.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// The restore of an archived copy, as far as a caller who waits for it needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRestore {
    /// Id.
    pub id: Uuid,
    /// Store that holds the copy.
    pub store: String,
    /// `wanted`, `restoring`, `ready` or `failed`.
    pub state: &'static str,
    /// When it was first requested.
    pub requested_at: DateTime<Utc>,
    /// When the copy could be read.
    pub ready_at: Option<DateTime<Utc>>,
    /// Until when it can be.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the store is asked next; none when it is not asked any more.
    pub next_check_at: Option<DateTime<Utc>>,
}

/// Every way in which a domain function ends without doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Fields of the input break their rules.
    #[error("{}", validation_text(.0))]
    Validation(Vec<FieldError>),
    /// The request makes no sense as a whole.
    #[error("{0}")]
    BadRequest(String),
    /// No valid credentials were given.
    #[error("Sign in first: no valid access token was sent.")]
    Unauthenticated,
    /// Email or password is wrong, or the account is disabled: deliberately not told apart.
    #[error("The email or the password is wrong.")]
    InvalidCredentials,
    /// The token was good once.
    #[error("The token has expired. Refresh it or sign in again.")]
    TokenExpired,
    /// The token was taken back.
    #[error("The token was revoked. Sign in again.")]
    TokenRevoked,
    /// A refresh token was used a second time: its whole family is revoked now.
    #[error("This refresh token was used before. All sessions descending from it have ended; sign in again.")]
    RefreshReused,
    /// A sign-in with a provider elsewhere did not succeed.
    #[error("{0}")]
    SignInRefused(&'static str),
    /// A provider elsewhere did not do what was asked.
    #[error("the sign-in provider failed: {0}")]
    Provider(String),
    /// Too many requests, or too many wrong passwords.
    #[error("Too many requests. Try again in {} s.", .retry_after.as_secs().max(1))]
    RateLimited {
        /// When to try again.
        retry_after: Duration,
    },
    /// The caller is known but may not do this.
    #[error("{0}")]
    Forbidden(&'static str),
    /// The thing does not exist, or the caller may not know that it does.
    #[error("There is no such {0}.")]
    NotFound(&'static str),
    /// What is named by its id does not exist, or lies in the trash.
    #[error("There is no {noun} {id}, or it is in the trash.")]
    NoSuch {
        /// What it would be.
        noun: &'static str,
        /// Its id.
        id: Uuid,
    },
    /// An account with this address exists.
    #[error("An account with this email address exists already.")]
    EmailTaken,
    /// A live file of this name is in the folder.
    #[error("A file named “{0}” is already in this folder.")]
    NameTaken(String),
    /// The state changed under the caller's feet.
    #[error("{0}")]
    Conflict(String),
    /// One crossing at a time.
    #[error("A sync is already running (run {0}). Wait for it, or cancel it first.")]
    SyncAlreadyRunning(RunId),
    /// A plan that does not say any more what a run would do.
    #[error("The plan cannot be carried out any more. {reason}{} Make a new one.", changes_text(.changes))]
    PlanChanged {
        /// Why, in a sentence.
        reason: String,
        /// What changed, by the file's id; the first ones when there are many.
        changes: Vec<FieldError>,
    },
    /// A condition of the request (If-Match and friends) does not hold.
    #[error("The file is not in the state that the request asks for.")]
    PreconditionFailed,
    /// The file is larger than the configured limit, in bytes.
    #[error("The file is larger than the limit of {limit} bytes.")]
    FileTooLarge {
        /// Largest size taken, in bytes.
        limit: u64,
    },
    /// The account's quota would be exceeded.
    #[error(
        "This upload would exceed your quota of {quota} bytes ({used} in use). Delete files or ask for more."
    )]
    QuotaExceeded {
        /// Bytes granted.
        quota: i64,
        /// Bytes in use.
        used: i64,
    },
    /// The range lies outside of the file (RFC 9110 section 14.4).
    #[error("The range lies outside of the file, which has {size} bytes.")]
    RangeNotSatisfiable {
        /// Size of the whole file, in bytes.
        size: u64,
    },
    /// The bytes that arrived are not those the client announced.
    #[error(
        "The file's SHA-256 is {actual}, the request announced {expected}. Nothing was stored; send it again."
    )]
    ChecksumMismatch {
        /// Announced by the client, hex.
        expected: String,
        /// Of the bytes that arrived, hex.
        actual: String,
    },
    /// A store did not do what was asked.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The only copies are archived; one is being restored.
    #[error(
        "The file is archived and has to be restored before it can be read. That was asked for; it takes hours."
    )]
    Archived(Box<PendingRestore>),
    /// No store can serve this now; later it may.
    #[error("No store that holds this file can be reached at the moment.")]
    StoreUnavailable {
        /// When to try again.
        retry_after: Duration,
    },
    /// Other uploads hold all the memory there is for those of unknown length.
    #[error(
        "Too many uploads are under way that do not say how long they are. Try again shortly, or send a Content-Length: \
         such an upload never waits."
    )]
    UploadsBusy {
        /// When to try again.
        retry_after: Duration,
    },
    /// Every local store is being emptied, so that nothing may be written to any.
    #[error(
        "Nothing can be stored at the moment: every local store is being emptied. An administrator can take that back."
    )]
    NoLocalStore,
    /// Postgres cannot be reached or did not answer in time.
    #[error("The database cannot be reached: {0}")]
    DatabaseUnavailable(String),
    /// A query failed: a bug or a broken database.
    #[error("database query failed: {0}")]
    Database(diesel::result::Error),
    /// Anything else that should not happen.
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
    /// One refused field.
    pub fn field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Validation(vec![FieldError::new(field, message)])
    }
}

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::{DatabaseErrorKind, Error as Diesel};
        match &error {
            Diesel::DatabaseError(DatabaseErrorKind::ClosedConnection, info) => {
                Self::DatabaseUnavailable(info.message().to_owned())
            }
            Diesel::BrokenTransactionManager => Self::DatabaseUnavailable(error.to_string()),
            _ => Self::Database(error),
        }
    }
}
