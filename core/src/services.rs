//! All services of a process: the [`Context`] and the state of each feature. A function takes the smallest of them that
//! it needs.

use crate::auth::Accounts;
use crate::clock::Clock;
use crate::config::Config;
use crate::context::Context;
use crate::error::Result;
use crate::file::Files;
use crate::tiering::Engine;

/// The context and the state of each feature. Cheap to clone; clones share the same state.
#[derive(Clone)]
pub struct Services {
    /// Configuration, database, stores and clock.
    pub context: Context,
    /// State for sign-in and token checks.
    pub accounts: Accounts,
    /// State for uploads and downloads.
    pub files: Files,
    /// State for copies between stores.
    pub engine: Engine,
}

impl Services {
    /// Does not connect to anything yet: an unreachable server is reported when it is used.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if the settings of a store are invalid; [`crate::error::Error::Internal`] if an
    /// HTTP client cannot be created.
    pub fn new(config: Config, clock: Clock) -> Result<Self> {
        Self::of(Context::new(config, clock)?)
    }

    /// Services for an existing context.
    ///
    /// # Errors
    /// [`crate::error::Error::Internal`] if an HTTP client cannot be created.
    pub fn of(context: Context) -> Result<Self> {
        Ok(Self {
            accounts: Accounts::new(context.clone())?,
            files: Files::new(context.clone()),
            engine: Engine::new(context.clone()),
            context,
        })
    }
}
