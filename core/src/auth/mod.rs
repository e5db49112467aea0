//! Authentication: passwords, tokens and sessions. Contains no HTTP.

pub mod account;
pub mod administration;
pub mod authenticate;
mod fair_queue;
pub mod guard;
pub mod identities;
pub mod keys;
pub mod network;
pub mod oidc;
pub mod password;
pub mod permission;
pub mod personal_token;
mod random;
mod secret_cipher;
pub mod session;
pub mod session_list;
pub mod token;

use self::guard::FailureNotes;
use self::oidc::Providers;
use self::password::PasswordHasher;
use self::token::AccessTokens;
use crate::context::Context;
use crate::error::Result;

/// State that sign-in and token checks need in addition to the [`Context`]. Created once per process; clones share it.
#[derive(Clone)]
pub struct Accounts {
    /// Configuration, database, stores and clock.
    pub context: Context,
    /// Access tokens and the keys that sign them.
    pub tokens: AccessTokens,
    /// Identity providers.
    pub oidc: Providers,
    /// Password hashing.
    pub passwords: PasswordHasher,
    /// Limits how many failed sign-ins are written to the audit log.
    pub failure_notes: FailureNotes,
}

impl Accounts {
    /// Creates the state from the configuration. Does not connect to anything yet.
    ///
    /// # Errors
    /// [`crate::error::Error::Internal`] if the HTTP client for identity providers cannot be created.
    pub fn new(context: Context) -> Result<Self> {
        let auth = &context.config.auth;
        Ok(Self {
            tokens: AccessTokens::new(auth),
            oidc: Providers::new(auth)?,
            passwords: PasswordHasher::new(auth.bcrypt_cost),
            failure_notes: FailureNotes::default(),
            context,
        })
    }
}
