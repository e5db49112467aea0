//! Postgres: the pool, its timeouts, and one module per table. The only place with SQL; independent of the stores.
//!
//! Transactions that lock rows of several tables use one order, to prevent deadlocks: the account first (several
//! administrators by id), then its sessions and tokens, or its files, then their objects. The tiering engine locks
//! replicas before files, but only replicas in states for which such transactions do not wait.

pub mod audit;
pub mod catalog;
pub mod connection;
pub mod drains;
pub mod enums;
pub mod eviction_places;
pub mod file_changes;
pub mod files;
pub mod folders;
pub mod identities;
pub mod labels;
pub mod leases;
pub mod listen;
pub mod migrate;
pub mod objects;
pub mod passes;
pub mod personal_tokens;
pub mod plans;
pub mod policy;
mod prepared;
pub mod rebalances;
pub mod refresh_tokens;
pub mod replicas;
pub mod restores;
pub mod revoked_tokens;
pub mod run_failures;
pub mod runs;
pub mod schedules;
pub mod schema;
pub mod scope;
pub mod sessions;
pub mod sign_in_guard;
pub mod signing_keys;
mod statement;
pub mod store_health;
pub mod store_identities;
mod tls;
pub mod transfer_parts;
pub mod uploads;
pub mod users;
pub mod workers;

use nightferry_config as config;
use nightferry_ground::{checksum, clock, encryption, retry};
use nightferry_types::{error, ids};
use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection, RunError};
use diesel_async::pooled_connection::{
    AsyncDieselConnectionManager, ManagerConfig, RecycleCheckCallback, RecyclingMethod,
};
use futures_util::FutureExt as _;
use secrecy::ExposeSecret;

use crate::clock::Clock;
use crate::config::DatabaseConfig;
use crate::error::{Error, Result};

/// A pooled connection, returned when dropped.
pub type Connection<'a> = PooledConnection<'a, AsyncPgConnection>;

/// The database of one process: a bounded connection pool with timeouts.
#[derive(Clone)]
pub struct Database {
    pool: Pool<AsyncPgConnection>,
    config: DatabaseConfig,
}

impl Database {
    /// Creates the pool. Connects lazily: an unavailable database causes [`Error::DatabaseUnavailable`] at the first
    /// query, and the pool recovers by itself.
    pub fn open(config: &DatabaseConfig) -> Self {
        Self::open_with_clock(config, Clock::system())
    }

    /// Like [`Self::open`]. Each time that a connection is handed out, `clock` is compared with that of the database.
    pub fn open_with_clock(config: &DatabaseConfig, clock: Clock) -> Self {
        let settings = config.clone();
        let check: Box<RecycleCheckCallback<AsyncPgConnection>> = Box::new(move |conn| {
            let clock = clock.clone();
            async move { connection::check(conn, &clock).await }.boxed()
        });
        let mut manager = ManagerConfig::default();
        manager.recycling_method = RecyclingMethod::CustomFunction(check);
        manager.custom_setup = Box::new(move |_| Box::pin(tls::connect(settings.clone())));
        let manager = AsyncDieselConnectionManager::new_with_config(config.url.expose_secret(), manager);
        let pool = Pool::builder()
            .max_size(config.pool_size)
            .connection_timeout(config.acquire_timeout)
            .idle_timeout(Some(Duration::from_secs(300)))
            .build_unchecked(manager);
        Self { pool, config: config.clone() }
    }

    /// Takes a connection from the pool, waiting at most the configured time. No code takes a second one while it holds
    /// one: if all did, they would wait for each other.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`] if none was available in time.
    pub async fn conn(&self) -> Result<Connection<'_>> {
        self.pool.get().await.map_err(|error| match error {
            RunError::TimedOut => Error::DatabaseUnavailable("no connection could be had in time".to_owned()),
            RunError::User(error) => Error::DatabaseUnavailable(error.to_string()),
        })
    }

    /// Opens a connection outside of the pool, for work that holds one for long: the pool remains free for the rest.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`].
    pub async fn dedicated(&self) -> Result<AsyncPgConnection> {
        let opened = tls::connect(self.config.clone()).await;
        opened.map_err(|error| Error::DatabaseUnavailable(error.to_string()))
    }

    /// The settings of this pool.
    pub fn config(&self) -> &DatabaseConfig {
        &self.config
    }
}

/// Disables the statement timeout until the end of the transaction, for statements that may affect millions of rows.
pub async fn disable_statement_timeout(conn: &mut AsyncPgConnection) -> Result<()> {
    use diesel_async::RunQueryDsl;
    diesel::sql_query("SET LOCAL statement_timeout = '15min'").execute(conn).await?;
    Ok(())
}

/// Splits rows that were selected with `LIMIT limit + 1` into a page of at most `limit` rows and whether more rows
/// exist.
pub fn split_page<T>(mut rows: Vec<T>, limit: i64) -> (Vec<T>, bool) {
    let limit = usize::try_from(limit).unwrap_or(0);
    let more = rows.len() > limit;
    rows.truncate(limit);
    (rows, more)
}

/// Converts a stored count to an unsigned number; database constraints prevent negative values.
pub fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// Converts a size or count to the type of Postgres. Saturates, which no real size reaches.
pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
