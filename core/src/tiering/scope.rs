//! Checks that the scope of a run or a plan exists: otherwise the run would succeed without copying anything.

use diesel_async::AsyncPgConnection;

use crate::db::runs::RunScope;
use crate::db::scope;
use crate::error::{Error, Result};

/// Rejects a scope with elements that do not exist or are in the trash.
///
/// # Errors
/// [`Error::NoSuch`].
pub(super) async fn require(conn: &mut AsyncPgConnection, scope: &RunScope) -> Result<()> {
    match scope::first_missing(conn, scope).await? {
        Some((noun, id)) => Err(Error::NoSuch { noun, id }),
        None => Ok(()),
    }
}
