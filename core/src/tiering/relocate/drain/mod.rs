//! Emptying a store: every replica is queued for another store, proved there, and only then deleted here, under the same
//! guards as freeing. Nothing new is planned for the store or written to it meanwhile, and files stay readable throughout.
//! Asked for, taken back, and looked at here; [`pass()`] does the work.

pub(super) mod planner;

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::context::Context;
use crate::db::audit::{self, Event, Origin};
use crate::db::drains::{self, Drain, Left};
use crate::db::{self, listen, replicas};
use crate::error::{Error, Result};
use crate::ids::UserId;
use crate::store::StoreRole;
use crate::tiering::policy;

pub use planner::pass;

/// A store that is being emptied, with what is left in it.
#[derive(Debug, Clone)]
pub struct Draining {
    /// What was asked for, and what it waits for.
    pub drain: Drain,
    /// What is still there.
    pub left: Left,
}

impl Draining {
    /// Whether nothing is left.
    pub fn is_finished(&self) -> bool {
        self.drain.finished_at.is_some()
    }
}

/// Every store that is drained or is empty.
///
/// # Errors
/// Any database error.
pub async fn all(context: &Context) -> Result<Vec<Drain>> {
    let mut conn = context.db.conn().await?;
    drains::all(&mut conn).await
}

/// Begins to empty a store. Where that was asked for before it goes on, and what was given up is tried again at once.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] when no store would be left that its files could go to.
pub async fn begin(context: &Context, name: &str, by: Option<UserId>, origin: &Origin) -> Result<Draining> {
    let store = context.stores.get(name).ok_or(Error::NotFound("store"))?;
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
                "No store is left to which the files of {name} could go: all the others are being emptied too."
            )));
        }
        let new = drains::begin(conn, name, by).await?;
        if new {
            let kept = context.stores.names_with(StoreRole::Local).into_iter();
            let kept: Vec<&str> = kept.filter(|store| !draining.iter().any(|it| it == store)).collect();
            replicas::move_only_among(conn, &kept).await?;
            replicas::forget_waiting(conn, name).await?;
            replicas::leave_runs(conn, name).await?;
            record(conn, "store.drain", name, by, origin).await?;
        } else {
            replicas::retry_moves(conn, name, &instead).await?;
        }
        listen::notify(conn, listen::RUNS, "drain").await?;
        view(conn, name).await?.ok_or(Error::NotFound("store"))
    })
    .await
}

/// Lets a store be used again. What has moved stays where it is; what only waits to move is forgotten. Answers whether it
/// was being emptied.
///
/// # Errors
/// [`Error::NotFound`].
pub async fn cancel(context: &Context, name: &str, by: Option<UserId>, origin: &Origin) -> Result<bool> {
    // Also of one that is not configured any more: its row would stay for ever.
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        drains::lock(conn).await?;
        if !drains::end(conn, name).await? {
            context.stores.get(name).ok_or(Error::NotFound("store"))?;
            return Ok(false);
        }
        db::may_take_long(conn).await?;
        replicas::forget_moves(conn).await?;
        // What moved out of the cloud and into a local store has to cross again.
        let locals = context.stores.names_with(StoreRole::Local);
        replicas::mend_spare(conn, &locals, &context.stores.names_with(StoreRole::Cloud)).await?;
        record(conn, "store.undrain", name, by, origin).await?;
        listen::notify(conn, listen::RUNS, "drain").await?;
        Ok(true)
    })
    .await
}

async fn record(
    conn: &mut AsyncPgConnection,
    action: &'static str,
    store: &str,
    actor: Option<UserId>,
    origin: &Origin,
) -> Result<()> {
    let event = Event {
        actor,
        action,
        target_type: "store",
        target_id: store.to_owned(),
        origin,
        detail: serde_json::json!({}),
    };
    audit::record(conn, event).await
}

/// A store that is being emptied, with what is left in it; none when it is not.
///
/// # Errors
/// Whatever the database meets.
pub async fn look(context: &Context, name: &str) -> Result<Option<Draining>> {
    let mut conn = context.db.conn().await?;
    view(&mut conn, name).await
}

async fn view(conn: &mut AsyncPgConnection, name: &str) -> Result<Option<Draining>> {
    let Some(drain) = drains::find(conn, name).await? else { return Ok(None) };
    let left = drains::left_in(conn, name).await?;
    Ok(Some(Draining { drain, left }))
}
