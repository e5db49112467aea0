//! State that almost every domain function needs: configuration, database, stores and clock. Created once per process,
//! cheap to clone, passed as an argument; there are no globals. State of a single feature belongs to that feature: see
//! [`crate::services::Services`].

use std::sync::Arc;

use crate::clock::Clock;
use crate::config::Config;
use crate::db::Database;
use crate::error::Result;
use crate::stores::Stores;

/// Configuration, database, stores and clock. Cheap to clone.
#[derive(Clone)]
pub struct Context {
    /// The configuration.
    pub config: Arc<Config>,
    /// Postgres.
    pub db: Database,
    /// Configured stores and their health.
    pub stores: Stores,
    /// The clock: the time of the database.
    pub clock: Clock,
}

impl Context {
    /// Does not connect to anything yet: an unreachable server is reported when it is used.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] if the settings of a store are invalid.
    pub fn new(config: Config, clock: Clock) -> Result<Self> {
        let stores = Stores::open(&config)?;
        let db = Database::open_with_clock(&config.database, clock.clone());
        Ok(Self { db, stores, clock, config: Arc::new(config) })
    }

    /// Compares the clock with that of the database, as every use of a connection does: for a process that needs the
    /// time before its first query.
    ///
    /// # Errors
    /// [`crate::error::Error::DatabaseUnavailable`].
    pub async fn compare_clocks(&self) -> Result<()> {
        self.db.conn().await.map(drop)
    }
}
