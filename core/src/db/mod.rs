//! Postgres: the pool, its deadlines, and one module per table. The only place in the workspace that knows SQL;
//! it knows nothing of stores.
//!
//! Transactions that lock rows of several tables do so in one order, so that no two wait for each other: the account first
//! (those of several administrators by id), then its sessions and tokens, or its files, then the objects behind these. The
//! engine goes from replicas to files, but with replicas in states that no such transaction waits for.

pub mod audit;
pub mod catalog;
pub mod drains;
pub mod enums;
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
mod tls;
pub mod transfer_parts;
pub mod users;
pub mod workers;

use std::time::Duration;

use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::bb8::{Pool, PooledConnection, RunError};
use diesel_async::pooled_connection::{AsyncDieselConnectionManager, ManagerConfig, RecyclingMethod};
use secrecy::ExposeSecret;

use crate::config::DatabaseConfig;
use crate::error::{Error, Result};

/// A pooled connection, given back when dropped.
pub type Connection<'a> = PooledConnection<'a, AsyncPgConnection>;

/// The database of one process: a bounded pool of connections with deadlines.
#[derive(Clone)]
pub struct Database {
    pool: Pool<AsyncPgConnection>,
    config: DatabaseConfig,
}

impl Database {
    /// Opens the pool. Connects lazily: a database that is down shows at the first query, as
    /// [`Error::DatabaseUnavailable`], and heals by itself when it is back.
    pub fn open(config: &DatabaseConfig) -> Self {
        let settings = config.clone();
        let mut manager = ManagerConfig::default();
        manager.recycling_method = RecyclingMethod::Verified;
        manager.custom_setup = Box::new(move |_| Box::pin(tls::connect(settings.clone())));
        let manager = AsyncDieselConnectionManager::new_with_config(config.url.expose_secret(), manager);
        let pool = Pool::builder()
            .max_size(config.pool_size)
            .connection_timeout(config.acquire_timeout)
            .idle_timeout(Some(Duration::from_secs(300)))
            .build_unchecked(manager);
        Self { pool, config: config.clone() }
    }

    /// Takes a connection from the pool, waiting at most the configured time for one.
    ///
    /// # Errors
    /// [`Error::DatabaseUnavailable`] when none could be had in time.
    pub async fn conn(&self) -> Result<Connection<'_>> {
        self.pool.get().await.map_err(|error| match error {
            RunError::TimedOut => Error::DatabaseUnavailable("no connection could be had in time".to_owned()),
            RunError::User(error) => Error::DatabaseUnavailable(error.to_string()),
        })
    }

    /// The settings this pool was opened with.
    pub fn config(&self) -> &DatabaseConfig {
        &self.config
    }
}

/// Lifts the statement timeout until the end of the transaction, for what may touch millions of rows.
pub async fn may_take_long(conn: &mut AsyncPgConnection) -> Result<()> {
    use diesel_async::RunQueryDsl;
    diesel::sql_query("SET LOCAL statement_timeout = '15min'").execute(conn).await?;
    Ok(())
}

/// A page of at most `limit` rows, and whether there are more: of rows of which one more than that was asked for.
pub fn cut<T>(mut rows: Vec<T>, limit: i64) -> (Vec<T>, bool) {
    let most = usize::try_from(limit).unwrap_or(0);
    let more = rows.len() > most;
    rows.truncate(most);
    (rows, more)
}

/// A stored count as the unsigned number it is; the database's constraints keep it from being negative.
pub fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

/// A size or count as Postgres stores it. Saturates: no real size comes near.
pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
