//! What nearly every domain function works with: configuration, database, stores and clock. Made once per process,
//! cheap to clone, handed down; nothing is global. What belongs to one feature lives with it: see
//! [`crate::services::Services`].

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::db::Database;
use crate::error::Result;
use crate::stores::Stores;

/// See the module.
#[derive(Clone)]
pub struct Context {
    /// Configuration, read once.
    pub config: Arc<Config>,
    /// Postgres.
    pub db: Database,
    /// The configured stores, and how well each is.
    pub stores: Stores,
    /// Time.
    pub clock: Clock,
}

impl Context {
    /// Connects to nobody yet: what is down shows where it is used.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] when a store's settings cannot work.
    pub fn new(config: Config, clock: Clock) -> Result<Self> {
        let stores = Stores::open(&config)?;
        Ok(Self { db: Database::open(&config.database), stores, clock, config: Arc::new(config) })
    }
}
