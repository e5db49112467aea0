//! Draining a store: every replica is queued for another store, verified there, and only then deleted here, with the
//! same checks as an eviction. Nothing new is planned for the store or written to it meanwhile, and files stay
//! readable. This module requests, cancels and shows drains; [`pass()`] does the work.

pub(super) mod planner;

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::drains::{self, Drain, Left};
use crate::db::{self, listen, replicas};
use crate::error::{Error, Noun, Result};
use crate::ids::UserId;
use crate::object::identity;
use crate::store::StoreRole;
use crate::tiering::policy;

pub use planner::pass;

/// A drain with the remaining replicas.
#[derive(Debug, Clone)]
pub struct Draining {
    /// The request, and what it is waiting for.
    pub drain: Drain,
    /// The remaining replicas.
    pub left: Left,
}

impl Draining {
    /// Whether nothing is left.
    pub fn is_finished(&self) -> bool {
        self.drain.finished_at.is_some()
    }
}

/// Every store that is being drained or has been drained.
pub async fn all(context: &Context) -> Result<Vec<Drain>> {
    drains::all(&mut *context.db.conn().await?).await
}

/// Starts a drain. An existing drain continues, and failed copies are retried immediately.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if there would be no destination, or if two stores have one bucket.
pub async fn begin(context: &Context, name: &str, by: Option<UserId>, origin: &Origin) -> Result<Draining> {
    let store = context.stores.get(name).ok_or(Error::NotFound(Noun::Store))?;
    identity::require_distinct(context)?;
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        drains::lock(conn).await?;
        let mut draining = drains::names(conn).await?;
        if !draining.iter().any(|it| it == name) {
            draining.push(name.to_owned());
        }
        let instead = policy::destinations(context, store, &draining);
        if instead.is_empty() {
            return Err(Error::Conflict(format!(
                "There is no other store for the files of {name}: all others are being drained too."
            )));
        }
        // The store may have millions of queued copies.
        db::disable_statement_timeout(conn).await?;
        let new = drains::begin(conn, name, by).await?;
        if new {
            let kept = context.stores.names_with(StoreRole::Local).into_iter();
            let kept: Vec<&str> = kept.filter(|store| !draining.iter().any(|it| it == store)).collect();
            replicas::move_only_among(conn, &kept).await?;
            replicas::delete_queued(conn, name).await?;
            replicas::leave_runs(conn, name).await?;
            audit::record(conn, origin, by, "store.drain", ("store", name), serde_json::json!({})).await?;
        } else {
            replicas::retry_moves(conn, name, &instead).await?;
        }
        listen::notify(conn, listen::RUNS, "drain").await?;
        view(conn, name).await?.ok_or(Error::NotFound(Noun::Store))
    })
    .await
}

/// Returns a store to use. Moved replicas stay where they are; queued moves are cancelled. Returns whether there was a
/// drain.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn cancel(context: &Context, name: &str, by: Option<UserId>, origin: &Origin) -> Result<bool> {
    // Also for a store that is no longer configured: otherwise its row would stay forever.
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        drains::lock(conn).await?;
        if !drains::end(conn, name).await? {
            context.stores.get(name).ok_or(Error::NotFound(Noun::Store))?;
            return Ok(false);
        }
        db::disable_statement_timeout(conn).await?;
        replicas::cancel_queued_moves(conn).await?;
        // Objects that were moved from the cloud to a local store have to be synced again.
        let locals = context.stores.names_with(StoreRole::Local);
        replicas::correct_evictable(conn, &locals, &context.stores.names_with(StoreRole::Cloud)).await?;
        audit::record(conn, origin, by, "store.undrain", ("store", name), serde_json::json!({})).await?;
        listen::notify(conn, listen::RUNS, "drain").await?;
        Ok(true)
    })
    .await
}

/// A drain with the remaining replicas; `None` if the store is not being drained.
pub async fn look(context: &Context, name: &str) -> Result<Option<Draining>> {
    view(&mut *context.db.conn().await?, name).await
}

async fn view(conn: &mut AsyncPgConnection, name: &str) -> Result<Option<Draining>> {
    let Some(drain) = drains::find(conn, name).await? else { return Ok(None) };
    let left = drains::left_in(conn, name).await?;
    Ok(Some(Draining { drain, left }))
}
