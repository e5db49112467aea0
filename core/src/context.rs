//! All that domain functions work with: configuration, database, stores, keys and clock. Made once per process,
//! cheap to clone, handed down; nothing is global.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::auth::guard::FailureNotes;
use crate::auth::oidc::Providers;
use crate::auth::password::PasswordHasher;
use crate::auth::token::AccessTokens;
use crate::clock::Clock;
use crate::config::Config;
use crate::db::Database;
use crate::error::Result;
use crate::file::access::AccessLog;
use crate::file::upload::UploadMemory;
use crate::health::Health;
use crate::stores::Stores;
use crate::tiering::pace::Pace;

/// See the module.
#[derive(Clone)]
pub struct Context {
    /// Configuration, read once.
    pub config: Arc<Config>,
    /// Postgres.
    pub db: Database,
    /// The configured stores.
    pub stores: Stores,
    /// Which stores are well, as this process sees them.
    pub health: Health,
    /// Access tokens and the keys that sign them.
    pub tokens: AccessTokens,
    /// Providers elsewhere with which people sign in.
    pub oidc: Providers,
    /// Password hashing.
    pub passwords: PasswordHasher,
    /// How much of failed sign-ins is written down.
    pub failure_notes: FailureNotes,
    /// Time.
    pub clock: Clock,
    /// When files were read, until it is written.
    pub accesses: AccessLog,
    /// What uploads may hold in memory, all together.
    pub upload_memory: UploadMemory,
    /// Streams that copies may have open, all together.
    pub copy_streams: Arc<Semaphore>,
    /// The bandwidth that copies share.
    pub pace: Pace,
}

impl Context {
    /// Wires everything up. Talks to nobody yet: what is down shows where it is used.
    ///
    /// # Errors
    /// [`crate::error::Error::Store`] when a store's settings cannot work.
    pub fn new(config: Config, clock: Clock) -> Result<Self> {
        let stores = Stores::open(&config)?;
        Ok(Self {
            db: Database::open(&config.database),
            tokens: AccessTokens::new(&config.auth),
            oidc: Providers::new(&config.auth)?,
            passwords: PasswordHasher::new(config.auth.bcrypt_cost),
            failure_notes: FailureNotes::default(),
            accesses: AccessLog::default(),
            upload_memory: UploadMemory::new(&config),
            copy_streams: Arc::new(Semaphore::new(config.tiering.streams.clamp(1, Semaphore::MAX_PERMITS))),
            pace: Pace::new(&config.tiering, clock.clone()),
            health: Health::new(&config.health),
            stores,
            clock,
            config: Arc::new(config),
        })
    }
}
