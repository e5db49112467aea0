//! Who somebody is: passwords, tokens and sessions. Knows no HTTP.

pub mod account;
pub mod administration;
pub mod authenticate;
pub mod guard;
pub mod identities;
pub mod keys;
pub mod network;
pub mod oidc;
pub mod password;
pub mod permission;
pub mod personal_token;
mod random;
mod seal;
pub mod session;
pub mod session_list;
pub mod token;
mod turns;

use self::guard::FailureNotes;
use self::oidc::Providers;
use self::password::PasswordHasher;
use self::token::AccessTokens;
use crate::context::Context;
use crate::error::Result;

/// What signing in and checking tokens need beyond the [`Context`]. Made once per process; clones share the same.
#[derive(Clone)]
pub struct Accounts {
    /// Configuration, database, stores and clock.
    pub context: Context,
    /// Access tokens and the keys that sign them.
    pub tokens: AccessTokens,
    /// The identity providers.
    pub oidc: Providers,
    /// Password hashing.
    pub passwords: PasswordHasher,
    /// How many failed sign-ins are written to the audit log.
    pub failure_notes: FailureNotes,
}

impl Accounts {
    /// As configured. Connects to nobody yet.
    ///
    /// # Errors
    /// [`crate::error::Error::Internal`] when the HTTP client for identity providers cannot start.
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
