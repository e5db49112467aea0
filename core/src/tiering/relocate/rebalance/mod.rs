//! Evening out the local stores: files move from the fullest to the emptiest until all are as full. Each is copied, proved and
//! only then deleted as from a store that is being emptied, so that there are as many copies of it as before.
//! Asked for, called off, and looked at here; [`plan()`] says what would move, and [`pass()`] does the work.
//!
//! Only local stores: in the cloud a file lies where the policy puts it.

mod balance;
mod begin;
mod plan;
pub(super) mod planner;

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::context::Context;
use crate::db::audit::{self, Event, Origin};
use crate::db::rebalances::{self, NewRoute, Rebalance, Route};
use crate::db::{listen, replicas, signed, unsigned};
use crate::error::{Error, Result};
use crate::ids::UserId;
use crate::store::StoreRole;

pub use plan::{LeftOut, Plan, Share, Shift, plan};
pub use planner::pass;

/// Per cent by which a store's share may differ from the mean when nothing else is asked for.
pub const TOLERANCE: u8 = 5;

/// What was asked for last, and how far it is.
#[derive(Debug, Clone)]
pub struct Rebalancing {
    /// What was asked for, and what it waits for.
    pub rebalance: Rebalance,
    /// What goes where.
    pub routes: Vec<Route>,
}

impl Rebalancing {
    /// Whether nothing of it is under way any more.
    pub fn is_finished(&self) -> bool {
        self.rebalance.finished_at.is_some()
    }

    /// Whether it was called off.
    pub fn was_stopped(&self) -> bool {
        self.rebalance.stopped_at.is_some()
    }

    /// `running`, `stopping`, `stopped` or `finished`.
    pub fn state(&self) -> &'static str {
        match (self.was_stopped(), self.is_finished()) {
            (false, false) => "running",
            (true, false) => "stopping",
            (true, true) => "stopped",
            (false, true) => "finished",
        }
    }

    /// Files and bytes that were to move.
    pub fn planned(&self) -> (u64, u64) {
        self.sum(|route| (unsigned(route.files_planned), unsigned(route.bytes_planned)))
    }

    /// Files and bytes that have moved.
    pub fn moved(&self) -> (u64, u64) {
        self.sum(moved)
    }

    fn sum(&self, of: fn(&Route) -> (u64, u64)) -> (u64, u64) {
        self.routes.iter().map(of).fold((0, 0), |(files, bytes), more| (files + more.0, bytes + more.1))
    }
}

/// Files and bytes that have moved along a route.
pub fn moved(route: &Route) -> (u64, u64) {
    (
        unsigned(route.files_begun - route.files_on_their_way),
        unsigned(route.bytes_begun - route.bytes_on_their_way),
    )
}

/// Whether stores of this role can be evened out.
///
/// # Errors
/// [`Error::Validation`] for all but the local ones.
pub fn check_role(role: StoreRole) -> Result<()> {
    match role {
        StoreRole::Local => Ok(()),
        StoreRole::Cloud => Err(Error::field(
            "role",
            "must be local: in the cloud a file lies where the policy's rules put it, and no store is evened out with another",
        )),
    }
}

/// What was asked for last; none when nothing ever was.
///
/// # Errors
/// Whatever the database meets.
pub async fn look(context: &Context) -> Result<Option<Rebalancing>> {
    let mut conn = context.db.conn().await?;
    view(&mut conn).await
}

/// What was asked for and has not come to its end; none when there is nothing to do.
///
/// # Errors
/// Any database error.
pub async fn under_way(context: &Context) -> Result<Option<Rebalance>> {
    let mut conn = context.db.conn().await?;
    Ok(rebalances::last(&mut conn).await?.filter(|last| last.finished_at.is_none()))
}

async fn view(conn: &mut AsyncPgConnection) -> Result<Option<Rebalancing>> {
    let Some(rebalance) = rebalances::last(conn).await? else { return Ok(None) };
    let routes = rebalances::routes(conn).await?;
    Ok(Some(Rebalancing { rebalance, routes }))
}

/// Asks for the local stores to be evened out, as [`plan()`] says at this moment. Where that is going on it goes on as it was
/// begun, and what was given up is tried again at once.
///
/// # Errors
/// As [`plan()`]; [`Error::Conflict`] when fewer than two stores take part, or what was called off has not ended yet.
pub async fn begin(
    context: &Context,
    tolerance: u8,
    by: Option<UserId>,
    origin: &Origin,
) -> Result<Rebalancing> {
    let plan = plan(context, tolerance).await?;
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        rebalances::lock_all(conn).await?;
        let last = rebalances::last(conn).await?;
        match last {
            Some(last) if last.is_active() => {
                replicas::retry_begun(conn).await?;
            }
            Some(last) if last.finished_at.is_none() => {
                return Err(Error::Conflict(
                    "The last time was called off, and what was under way has not ended yet. Ask again in a moment."
                        .to_owned(),
                ));
            }
            _ => new(conn, &plan, by, origin).await?,
        }
        listen::notify(conn, listen::RUNS, "rebalance").await?;
        view(conn).await?.ok_or_else(|| Error::Internal("the rebalance that was begun is gone".to_owned()))
    })
    .await
}

async fn new(conn: &mut AsyncPgConnection, plan: &Plan, by: Option<UserId>, origin: &Origin) -> Result<()> {
    if plan.taking_part().count() < 2 {
        let why: Vec<String> = plan
            .stores
            .iter()
            .filter_map(|store| Some(format!(" {} is left out: {}.", store.name, store.left_out?)))
            .collect();
        return Err(Error::Conflict(format!(
            "There is nothing to even out: it takes two local stores that are well and not being emptied.{}",
            why.concat()
        )));
    }
    let routes: Vec<NewRoute> = plan
        .shifts
        .iter()
        .map(|shift| NewRoute {
            from: shift.from.clone(),
            to: shift.to.clone(),
            files: signed(shift.files),
            bytes: signed(shift.bytes),
        })
        .collect();
    rebalances::begin(conn, i16::from(plan.tolerance), by, &routes).await?;
    let moves: Vec<_> = plan
        .shifts
        .iter()
        .map(|shift| serde_json::json!({ "from": shift.from, "to": shift.to, "files": shift.files, "bytes": shift.bytes }))
        .collect();
    let detail = serde_json::json!({ "tolerance": plan.tolerance, "moves": moves });
    record(conn, "store.rebalance", by, origin, detail).await
}

/// Calls it off: what has moved stays where it is, what was not begun stays too, and what is on its way still ends. Answers
/// whether there was anything to call off.
///
/// # Errors
/// Whatever the database meets.
pub async fn stop(context: &Context, by: Option<UserId>, origin: &Origin) -> Result<bool> {
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        if !rebalances::lock(conn).await?.is_some_and(|last| last.is_active()) {
            return Ok(false);
        }
        rebalances::stop(conn).await?;
        // Replicas before routes, as everybody locks them.
        replicas::forget_begun(conn).await?;
        rebalances::begin_no_more(conn).await?;
        rebalances::note(conn, None).await?;
        record(conn, "store.rebalance_stop", by, origin, serde_json::json!({})).await?;
        listen::notify(conn, listen::RUNS, "rebalance").await?;
        Ok(true)
    })
    .await
}

async fn record(
    conn: &mut AsyncPgConnection,
    action: &'static str,
    actor: Option<UserId>,
    origin: &Origin,
    detail: serde_json::Value,
) -> Result<()> {
    let event = Event { actor, action, target_type: "stores", target_id: "local".to_owned(), origin, detail };
    audit::record(conn, event).await
}
