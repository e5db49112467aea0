//! Error codes: the stable names of errors, and of the kinds of items that errors refer to. Both are part of the public
//! contract. The api crate maps codes to HTTP statuses, the cli crate maps them to exit codes.

use std::fmt;

/// Who can resolve an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// The caller: the same request fails again.
    Request,
    /// Time: the same request may succeed later.
    Temporary,
    /// The operator. The cause is logged and never sent to clients.
    Fault,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal, $category:ident;)+) => {
        /// The stable name of an error.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorCode {
            $($(#[$doc])* $code,)+
        }

        impl ErrorCode {
            /// The text of the code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)+ }
            }

            /// The category of the error.
            pub const fn category(self) -> Category {
                match self { $(Self::$code => Category::$category,)+ }
            }
        }
    };
}

codes! {
    /// Invalid input fields.
    ValidationFailed = "VALIDATION_FAILED", Request;
    /// The request is invalid as a whole.
    BadRequest = "BAD_REQUEST", Request;
    /// The URL does not support this method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", Request;
    /// The media type of the content is not allowed.
    TypeNotAllowed = "TYPE_NOT_ALLOWED", Request;
    /// No valid credentials.
    Unauthenticated = "UNAUTHENTICATED", Request;
    /// Wrong credentials.
    InvalidCredentials = "INVALID_CREDENTIALS", Request;
    /// The token has expired.
    TokenExpired = "TOKEN_EXPIRED", Request;
    /// The token was revoked.
    TokenRevoked = "TOKEN_REVOKED", Request;
    /// The refresh token was used before.
    RefreshReused = "REFRESH_REUSED", Request;
    /// The caller is not permitted to do this.
    Forbidden = "FORBIDDEN", Request;
    /// A request with cookies was sent by another site.
    CsrfRejected = "CSRF_REJECTED", Request;
    /// The item does not exist, or the caller may not know that it does.
    NotFound = "NOT_FOUND", Request;
    /// An account with this email address exists.
    EmailTaken = "EMAIL_TAKEN", Request;
    /// The folder contains a live file with this name.
    NameTaken = "NAME_TAKEN", Request;
    /// The current state of the item does not allow it.
    Conflict = "CONFLICT", Request;
    /// Another run is active.
    SyncAlreadyRunning = "SYNC_ALREADY_RUNNING", Request;
    /// A precondition of the request failed.
    PreconditionFailed = "PRECONDITION_FAILED", Request;
    /// The content is larger than the limit.
    FileTooLarge = "FILE_TOO_LARGE", Request;
    /// The account's quota would be exceeded.
    QuotaExceeded = "QUOTA_EXCEEDED", Request;
    /// The range is not satisfiable.
    RangeNotSatisfiable = "RANGE_NOT_SATISFIABLE", Request;
    /// The content does not match the announced checksum.
    ChecksumMismatch = "CHECKSUM_MISMATCH", Request;
    /// Rate limit exceeded.
    RateLimited = "RATE_LIMITED", Temporary;
    /// No store is currently available for the operation.
    StoreUnavailable = "STORE_UNAVAILABLE", Temporary;
    /// The database cannot be reached.
    DatabaseUnavailable = "DATABASE_UNAVAILABLE", Temporary;
    /// A store operation failed.
    StoreError = "STORE_ERROR", Fault;
    /// An identity provider failed or sent an invalid response.
    ProviderError = "PROVIDER_ERROR", Fault;
    /// Internal error.
    Internal = "INTERNAL", Fault;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The kind of item that an error refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum Noun {
    /// A URL of the API.
    Address,
    /// A file.
    File,
    /// A version of a file.
    #[strum(serialize = "version of this file")]
    Version,
    /// A folder.
    Folder,
    /// An object.
    Object,
    /// An account.
    User,
    /// A session of an account.
    Session,
    /// A personal access token.
    Token,
    /// An identity that is linked to an account.
    Identity,
    /// An identity provider.
    Provider,
    /// A run.
    Run,
    /// A plan of a run.
    Plan,
    /// A store.
    Store,
}
