//! The index for searches by a part of a name. It needs an extension that not every server offers, so it is no migration.

use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use tokio::time::Instant;

use super::session::{Session, one_text, yes};
use crate::Database;
use crate::error::{Error, Result};

/// Whether searches by a part of a name have an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameSearch {
    /// They have one.
    Indexed,
    /// They read all names of an account; with the reason and the remedy, in words.
    Unindexed(String),
}

const IS_INDEXED: &str = "SELECT EXISTS (SELECT 1 FROM pg_index \
                                         WHERE indexrelid = to_regclass('files_name_trigrams_idx') AND indisvalid) AS yes";
const IS_OFFERED: &str =
    "SELECT EXISTS (SELECT 1 FROM pg_available_extensions WHERE name = 'pg_trgm') AS yes";
const SCHEMA: &str = "SELECT (SELECT quote_ident(n.nspname) FROM pg_extension e \
                              JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_trgm') AS text";

/// Builds the index, unless it exists or the server does not permit it. Requests go on meanwhile.
///
/// # Errors
/// [`Error::DatabaseUnavailable`], and [`Error::Database`] if a query of the catalogue of Postgres fails.
pub async fn ensure_name_search(database: &Database) -> Result<NameSearch> {
    let mut session = Session::open(database).await?;
    let conn = session.connection()?;
    if yes(conn, IS_INDEXED).await? {
        return Ok(NameSearch::Indexed);
    }
    let schema = match extension(conn).await? {
        Ok(schema) => schema,
        Err(reason) => return Ok(NameSearch::Unindexed(reason)),
    };
    tracing::info!("building the index for searches by a part of a name; requests are not blocked");
    let started = Instant::now();
    let Err(reason) = unavailable_or_reason(build(conn, &schema).await)? else {
        tracing::info!(
            seconds = started.elapsed().as_secs(),
            "the index for searches by a part of a name is built"
        );
        return Ok(NameSearch::Indexed);
    };
    Ok(NameSearch::Unindexed(format!(
        "the index could not be built ({reason}); `nightferry migrate` builds it again"
    )))
}

/// Whether the index exists; it is not built.
///
/// # Errors
/// As [`ensure_name_search`].
pub async fn is_name_search_indexed(database: &Database) -> Result<bool> {
    yes(Session::open(database).await?.connection()?, IS_INDEXED).await
}

/// The schema that contains the extension, which is created if that is permitted; or why there is none.
async fn extension(conn: &mut AsyncPgConnection) -> Result<std::result::Result<String, String>> {
    if let Some(schema) = one_text(conn, SCHEMA).await? {
        return Ok(Ok(schema));
    }
    if !yes(conn, IS_OFFERED).await? {
        return Ok(Err(
            "the server does not offer the extension pg_trgm: install the contrib modules of Postgres, \
                       then run `nightferry migrate`"
                .to_owned(),
        ));
    }
    let created = conn.batch_execute("CREATE EXTENSION IF NOT EXISTS pg_trgm").await.map_err(Error::from);
    if let Err(reason) = unavailable_or_reason(created)? {
        return Ok(Err(format!(
            "the extension pg_trgm could not be created ({reason}): let a superuser execute CREATE EXTENSION pg_trgm \
             in this database, then run `nightferry migrate`"
        )));
    }
    Ok(one_text(conn, SCHEMA).await?.ok_or_else(|| "the extension pg_trgm was dropped meanwhile".to_owned()))
}

/// Builds the index anew: one that exists is invalid, because an earlier attempt broke off.
async fn build(conn: &mut AsyncPgConnection, schema: &str) -> Result<()> {
    let create = format!(
        "CREATE INDEX CONCURRENTLY files_name_trigrams_idx ON files USING gin (filename {schema}.gin_trgm_ops) \
         WHERE deleted_at IS NULL"
    );
    // Requests do not wait behind these statements, so they may wait for their locks.
    for sql in ["SET lock_timeout = 0", "DROP INDEX CONCURRENTLY IF EXISTS files_name_trigrams_idx", &create]
    {
        conn.batch_execute(sql).await?;
    }
    Ok(())
}

/// What Postgres refuses is a reason; a database that is away is an error.
fn unavailable_or_reason(done: Result<()>) -> Result<std::result::Result<(), String>> {
    match done {
        Ok(()) => Ok(Ok(())),
        Err(Error::Database(error)) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}
