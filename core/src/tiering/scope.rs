//! What a run or a plan is limited to must exist: one of what does not would end well without having moved anything.

use diesel_async::AsyncPgConnection;

use crate::db::runs::RunScope;
use crate::db::scope;
use crate::error::{Error, Result};

/// Refuses a scope that names what does not exist or lies in the trash.
///
/// # Errors
/// [`Error::NoSuch`].
pub(super) async fn require(conn: &mut AsyncPgConnection, scope: &RunScope) -> Result<()> {
    match scope::first_missing(conn, scope).await? {
        Some((noun, id)) => Err(Error::NoSuch { noun, id }),
        None => Ok(()),
    }
}
