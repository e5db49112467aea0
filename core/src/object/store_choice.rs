//! Chooses the local store for new bytes: the first, in the configured order, that is healthy and not being drained.

use diesel_async::AsyncPgConnection;

use crate::context::Context;
use crate::db::drains;
use crate::error::{Error, Result};
use crate::store::{Store, StoreRole};

/// The local stores that take new bytes, best first: those that are up before those that are not.
///
/// # Errors
/// Any database error.
pub async fn locals<'c>(context: &'c Context, conn: &mut AsyncPgConnection) -> Result<Vec<&'c Store>> {
    let draining = drains::names(conn).await?;
    let mut stores = context.stores.with_role(StoreRole::Local);
    stores.retain(|store| !draining.iter().any(|name| name == store.name().as_str()));
    Ok(context.stores.health().up_first(stores))
}

/// The best of them. A store that is down is better than none: it may be back.
///
/// # Errors
/// [`Error::NoLocalStore`] when all are being drained.
pub async fn local<'c>(context: &'c Context, conn: &mut AsyncPgConnection) -> Result<&'c Store> {
    locals(context, conn).await?.into_iter().next().ok_or(Error::NoLocalStore)
}
