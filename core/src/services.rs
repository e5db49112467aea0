//! Everything that a process works with: the [`Context`], and what belongs to one feature each. Functions take the
//! smallest of them that they need.

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
    /// For signing in and checking tokens.
    pub accounts: Accounts,
    /// For uploads and downloads.
    pub files: Files,
    /// For copies between stores.
    pub engine: Engine,
}

impl Services {
    /// Connects to nobody yet: what is down shows where it is used.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] when a store's settings cannot work, [`crate::error::Error::Internal`] when an HTTP
    /// client cannot start.
    pub fn new(config: Config, clock: Clock) -> Result<Self> {
        Self::of(Context::new(config, clock)?)
    }

    /// Services on top of a context that exists.
    ///
    /// # Errors
    /// [`crate::error::Error::Internal`] when an HTTP client cannot start.
    pub fn of(context: Context) -> Result<Self> {
        Ok(Self {
            accounts: Accounts::new(context.clone())?,
            files: Files::new(context.clone()),
            engine: Engine::new(context.clone()),
            context,
        })
    }
}
