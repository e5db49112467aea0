//! Applies and reverts the embedded migrations, one process at a time, while others serve requests.

mod embedded;
mod name_search;
mod script;
mod session;

pub use name_search::{NameSearch, ensure_name_search, is_name_search_indexed};
pub use script::{ALL, Script, code, statements};

use self::session::{Direction, Session};
use crate::Database;
use crate::error::{Error, Result};

/// Applies missing migrations; returns their names, oldest first. Waits while another process is migrating.
///
/// # Errors
/// [`Error::DatabaseUnavailable`], [`Error::Conflict`] if a migration does not get its locks, or [`Error::Internal`]
/// with the name of the failed migration.
pub async fn apply(database: &Database) -> Result<Vec<String>> {
    let mut session = Session::open(database).await?;
    let mut applied = Vec::new();
    for script in session.pending().await? {
        session.run(script, Direction::Up).await?;
        applied.push(script.name.to_owned());
    }
    Ok(applied)
}

/// Applies the oldest missing migration and returns it: for tests that examine one at a time.
///
/// # Errors
/// As [`apply`].
pub async fn apply_next(database: &Database) -> Result<Option<&'static Script>> {
    let mut session = Session::open(database).await?;
    let next = session.pending().await?.first().copied();
    if let Some(script) = next {
        session.run(script, Direction::Up).await?;
    }
    Ok(next)
}

/// Names of the embedded migrations that the database lacks.
///
/// # Errors
/// As [`apply`].
pub async fn pending(database: &Database) -> Result<Vec<String>> {
    let pending = Session::open(database).await?.pending().await?;
    Ok(pending.into_iter().map(|script| script.name.to_owned()).collect())
}

/// The newest applied migrations, newest first: what [`revert`] would revert.
///
/// # Errors
/// [`Error::BadRequest`] if fewer are applied; [`Error::Conflict`] if one is not part of this version; and as [`apply`].
pub async fn newest(database: &Database, count: usize) -> Result<Vec<&'static Script>> {
    Session::open(database).await?.newest(count).await
}

/// Whether migrations are reverted while other processes are connected, which need what is taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Nothing is reverted while there is one.
    MustBeStopped,
    /// They are ignored: for tests.
    Ignored,
}

/// Reverts the given migrations if they are still the newest, in this order.
///
/// # Errors
/// [`Error::Conflict`] if they are not, if another process is connected, or if one cannot be reverted because of the
/// data; and as [`apply`]. Those before the one that failed are reverted.
pub async fn revert(database: &Database, migrations: &[&'static Script], others: Others) -> Result<()> {
    let mut session = Session::open(database).await?;
    let newest = session.newest(migrations.len()).await?;
    if newest.iter().map(|script| script.name).ne(migrations.iter().map(|script| script.name)) {
        return Err(Error::Conflict("Another process has migrated the database in the meantime.".to_owned()));
    }
    if others == Others::MustBeStopped {
        let connected = session.others().await?;
        if !connected.is_empty() {
            let list = connected.join("; ");
            return Err(Error::Conflict(format!(
                "Processes of Nightferry are connected to the database: {list}"
            )));
        }
    }
    for script in newest {
        session.run(script, Direction::Down).await?;
    }
    Ok(())
}
