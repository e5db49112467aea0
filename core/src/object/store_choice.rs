//! Selects the local store for new data: the first healthy store, in configured order, that is neither full nor being
//! drained.

use diesel_async::AsyncPgConnection;

use crate::context::Context;
use crate::db::drains;
use crate::error::{Error, Result};
use crate::store::{Store, StoreRole};

/// The local stores for new data, best first: those that are up and accept it before the others.
pub async fn locals<'c>(context: &'c Context, conn: &mut AsyncPgConnection) -> Result<Vec<&'c Store>> {
    let draining = drains::names(conn).await?;
    let mut stores = context.stores.with_role(StoreRole::Local);
    stores.retain(|store| !draining.iter().any(|name| name == store.name().as_str()));
    Ok(context.stores.health().accepting_first(stores))
}

/// The best of the local stores. A store that is down or full is better than none: it may have recovered.
///
/// # Errors
/// [`Error::NoLocalStore`] if all local stores are being drained.
pub async fn local<'c>(context: &'c Context, conn: &mut AsyncPgConnection) -> Result<&'c Store> {
    locals(context, conn).await?.into_iter().next().ok_or(Error::NoLocalStore)
}
