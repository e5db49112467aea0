//! Applies and reverts the embedded migrations, one process at a time.

use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::{Database, tls};
use crate::error::{Error, Result};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// An arbitrary constant: identifies the advisory lock of migrations.
const ADVISORY_LOCK: i64 = 0x6e69_6768_7466_6572;

/// Applies missing migrations; returns the applied versions, oldest first. Waits while another process is migrating.
///
/// # Errors
/// [`Error::DatabaseUnavailable`], or [`Error::Internal`] with the name of the failed migration.
pub async fn apply(database: &Database) -> Result<Vec<String>> {
    with_harness(database, |harness| {
        let applied = harness.run_pending_migrations(MIGRATIONS)?;
        Ok(applied.iter().map(ToString::to_string).collect())
    })
    .await
}

/// Reverts every migration, newest first. For tests and for uninstalling.
///
/// # Errors
/// As [`apply`].
pub async fn revert_all(database: &Database) -> Result<Vec<String>> {
    with_harness(database, |harness| {
        let reverted = harness.revert_all_migrations(MIGRATIONS)?;
        Ok(reverted.iter().map(ToString::to_string).collect())
    })
    .await
}

/// Names of the embedded migrations that the database lacks.
///
/// # Errors
/// As [`apply`].
pub async fn pending(database: &Database) -> Result<Vec<String>> {
    with_harness(database, |harness| {
        let pending = harness.pending_migrations(MIGRATIONS)?;
        Ok(pending.iter().map(|migration| migration.name().to_string()).collect())
    })
    .await
}

type Harness = AsyncMigrationHarness<AsyncPgConnection>;
type MigrationResult<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Runs on a separate thread with its own runtime, because the harness blocks and panics on a current-thread runtime.
/// Uses a separate connection, because DDL may exceed the statement timeout of the pool.
async fn with_harness<T: Send + 'static>(
    database: &Database,
    act: impl FnOnce(&mut Harness) -> MigrationResult<T> + Send + 'static,
) -> Result<T> {
    let config = database.config().clone();
    let work = move || -> Result<T> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(
                |error| Error::Internal(format!("cannot start a runtime for migrations: {error}")),
            )?;
        runtime.block_on(async move {
            let mut conn =
                tls::connect(config).await.map_err(|error| Error::DatabaseUnavailable(error.to_string()))?;
            diesel::sql_query("SET statement_timeout = 0").execute(&mut conn).await?;
            diesel::sql_query("SET lock_timeout = 0").execute(&mut conn).await?;
            diesel::sql_query(format!("SELECT pg_advisory_lock({ADVISORY_LOCK})")).execute(&mut conn).await?;
            // A migration that waits for a table lock blocks all other queries of the table: it fails instead, and can
            // be repeated.
            diesel::sql_query("SET lock_timeout = '10s'").execute(&mut conn).await?;
            tokio::task::spawn_blocking(move || act(&mut Harness::new(conn)))
                .await
                .map_err(|error| Error::Internal(format!("migrating panicked: {error}")))?
                .map_err(|error| Error::Internal(format!("a migration failed: {error}")))
        })
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Internal(format!("migrating panicked: {error}")))?
}
