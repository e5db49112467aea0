//! The stable names of errors and of the things they are about: contract with programs, whatever carries them. What a code
//! becomes in HTTP is decided in the api crate, which exit code it becomes in the cli crate.

use std::fmt;

/// Whom an error concerns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// The caller: the same request fails again.
    Request,
    /// Nobody: the same request may succeed later, unchanged.
    Temporary,
    /// The operator. The cause is in the log, and in no answer.
    Fault,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $text:literal, $category:ident;)+) => {
        /// The stable name of an error, for programs.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorCode {
            $($(#[$doc])* $code,)+
        }

        impl ErrorCode {
            /// The text of the code.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$code => $text,)+ }
            }

            /// Whom the error concerns.
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
    /// The address does not take this method.
    MethodNotAllowed = "METHOD_NOT_ALLOWED", Request;
    /// The content is of a type that is not taken.
    TypeNotAllowed = "TYPE_NOT_ALLOWED", Request;
    /// No valid credentials.
    Unauthenticated = "UNAUTHENTICATED", Request;
    /// The credentials are wrong.
    InvalidCredentials = "INVALID_CREDENTIALS", Request;
    /// The token has expired.
    TokenExpired = "TOKEN_EXPIRED", Request;
    /// The token was revoked.
    TokenRevoked = "TOKEN_REVOKED", Request;
    /// The refresh token was used before.
    RefreshReused = "REFRESH_REUSED", Request;
    /// The caller may not do this.
    Forbidden = "FORBIDDEN", Request;
    /// A request with cookies comes from another site.
    CsrfRejected = "CSRF_REJECTED", Request;
    /// It does not exist, or the caller may not know that it does.
    NotFound = "NOT_FOUND", Request;
    /// An account with this email address exists.
    EmailTaken = "EMAIL_TAKEN", Request;
    /// The folder contains a live file with this name.
    NameTaken = "NAME_TAKEN", Request;
    /// The state of the thing forbids it.
    Conflict = "CONFLICT", Request;
    /// Another run is active.
    SyncAlreadyRunning = "SYNC_ALREADY_RUNNING", Request;
    /// A condition of the request does not hold.
    PreconditionFailed = "PRECONDITION_FAILED", Request;
    /// The content is larger than the limit.
    FileTooLarge = "FILE_TOO_LARGE", Request;
    /// The account's quota would be exceeded.
    QuotaExceeded = "QUOTA_EXCEEDED", Request;
    /// The range is not satisfiable.
    RangeNotSatisfiable = "RANGE_NOT_SATISFIABLE", Request;
    /// The bytes are not those that were announced.
    ChecksumMismatch = "CHECKSUM_MISMATCH", Request;
    /// Too many requests.
    RateLimited = "RATE_LIMITED", Temporary;
    /// No store can do this now.
    StoreUnavailable = "STORE_UNAVAILABLE", Temporary;
    /// The database cannot be reached.
    DatabaseUnavailable = "DATABASE_UNAVAILABLE", Temporary;
    /// A store operation failed.
    StoreError = "STORE_ERROR", Fault;
    /// An identity provider did not do what was asked.
    ProviderError = "PROVIDER_ERROR", Fault;
    /// Anything that should not happen.
    Internal = "INTERNAL", Fault;
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! nouns {
    ($($(#[$doc:meta])* $noun:ident = $text:literal,)+) => {
        /// What an error says does not exist.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Noun {
            $($(#[$doc])* $noun,)+
        }

        impl fmt::Display for Noun {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$noun => $text,)+ })
            }
        }
    };
}

nouns! {
    /// An address of the API.
    Address = "address",
    /// A file.
    File = "file",
    /// A version of a file.
    Version = "version of this file",
    /// A folder.
    Folder = "folder",
    /// An object.
    Object = "object",
    /// An account.
    User = "user",
    /// A session of an account.
    Session = "session",
    /// A personal access token.
    Token = "token",
    /// An identity that is linked to an account.
    Identity = "identity",
    /// An identity provider.
    Provider = "provider",
    /// A run.
    Run = "run",
    /// A plan of a run.
    Plan = "plan",
    /// A store.
    Store = "store",
}
