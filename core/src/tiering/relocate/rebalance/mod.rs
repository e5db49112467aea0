//! Rebalancing the local stores: files are moved from the fullest to the emptiest store until all are evenly filled.
//! Each file is copied, verified and only then deleted as in a drain, so that the number of its copies does not change.
//! This module starts, stops and shows it; [`plan()`] computes the moves, and [`pass()`] does the work.
//!
//! Local stores only: in the cloud, the policy determines where files are stored.

mod balance;
mod begin;
mod plan;
pub(super) mod planner;

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::rebalances::{self, NewRoute, Rebalance, Route};
use crate::db::{listen, replicas, signed, unsigned};
use crate::error::{Error, Result};
use crate::ids::UserId;
use crate::object::identity;
use crate::store::StoreRole;

pub use plan::{Exclusion, Plan, Share, Shift, plan};
pub use planner::pass;

/// The default tolerance in percent.
pub const TOLERANCE: u8 = 5;

/// The last request and its progress.
#[derive(Debug, Clone)]
pub struct Rebalancing {
    /// The request, and what it is waiting for.
    pub rebalance: Rebalance,
    /// The routes.
    pub routes: Vec<Route>,
}

impl Rebalancing {
    /// Whether none of its moves is in progress any more.
    pub fn is_finished(&self) -> bool {
        self.rebalance.finished_at.is_some()
    }

    /// Whether it was stopped.
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

    /// Planned files and bytes.
    pub fn planned(&self) -> (u64, u64) {
        self.sum(|route| (unsigned(route.files_planned), unsigned(route.bytes_planned)))
    }

    /// Moved files and bytes.
    pub fn moved(&self) -> (u64, u64) {
        self.sum(moved)
    }

    fn sum(&self, of: fn(&Route) -> (u64, u64)) -> (u64, u64) {
        self.routes.iter().map(of).fold((0, 0), |(files, bytes), more| (files + more.0, bytes + more.1))
    }
}

/// Files and bytes moved along a route.
pub fn moved(route: &Route) -> (u64, u64) {
    (
        unsigned(route.files_begun - route.files_on_their_way),
        unsigned(route.bytes_begun - route.bytes_on_their_way),
    )
}

/// Checks that stores of this role can be rebalanced.
///
/// # Errors
/// [`Error::Validation`] for all roles except local.
pub fn check_role(role: StoreRole) -> Result<()> {
    match role {
        StoreRole::Local => Ok(()),
        StoreRole::Cloud => Err(Error::field(
            "role",
            "must be local: in the cloud, policy rules determine where files are stored, and stores are \
                not rebalanced",
        )),
    }
}

/// The last request; `None` if there was never one.
pub async fn look(context: &Context) -> Result<Option<Rebalancing>> {
    view(&mut *context.db.conn().await?).await
}

/// The active request; `None` if there is nothing to do.
pub async fn under_way(context: &Context) -> Result<Option<Rebalance>> {
    Ok(rebalances::last(&mut *context.db.conn().await?).await?.filter(|last| last.finished_at.is_none()))
}

async fn view(conn: &mut AsyncPgConnection) -> Result<Option<Rebalancing>> {
    let Some(rebalance) = rebalances::last(conn).await? else { return Ok(None) };
    let routes = rebalances::routes(conn).await?;
    Ok(Some(Rebalancing { rebalance, routes }))
}

/// Starts rebalancing the local stores, according to [`plan()`] now. If one is in progress, it continues unchanged, and
/// failed copies are retried immediately.
///
/// # Errors
/// Like [`plan()`]; [`Error::Conflict`] if fewer than two stores are included, or a stopped rebalancing has not ended
/// yet, or if two stores have one bucket.
pub async fn begin(
    context: &Context,
    tolerance: u8,
    by: Option<UserId>,
    origin: &Origin,
) -> Result<Rebalancing> {
    identity::require_distinct(context)?;
    let plan = plan(context, tolerance).await?;
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        rebalances::lock_all(conn).await?;
        let last = rebalances::last(conn).await?;
        match last {
            Some(last) if last.is_active() => {
                replicas::retry_all_failed(conn).await?;
            }
            Some(last) if last.finished_at.is_none() => {
                return Err(Error::Conflict(
                    "The last rebalancing was stopped, and its moves in progress have not ended yet. Try \
                        again in a moment."
                        .to_owned(),
                ));
            }
            _ => new(conn, &plan, by, origin).await?,
        }
        listen::notify(conn, listen::RUNS, "rebalance").await?;
        view(conn).await?.ok_or_else(|| Error::Internal("the started rebalancing has disappeared".to_owned()))
    })
    .await
}

async fn new(conn: &mut AsyncPgConnection, plan: &Plan, by: Option<UserId>, origin: &Origin) -> Result<()> {
    if plan.taking_part().count() < 2 {
        let why: Vec<String> = plan
            .stores
            .iter()
            .filter_map(|store| Some(format!(" {} is excluded: {}.", store.name, store.excluded?)))
            .collect();
        return Err(Error::Conflict(format!(
            "There is nothing to rebalance: at least two local stores must be healthy and not being \
                drained.{}",
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
    let detail = serde_json::json!({ "tolerance": plan.tolerance, "moves": routes });
    audit::record(conn, origin, by, "store.rebalance", ("stores", "local"), detail).await
}

/// Stops it: moved files stay where they are, other files stay too, and moves in progress finish. Returns whether there
/// was anything to stop.
pub async fn stop(context: &Context, by: Option<UserId>, origin: &Origin) -> Result<bool> {
    let mut conn = context.db.conn().await?;
    conn.transaction(async move |conn| {
        if !rebalances::lock(conn).await?.is_some_and(|last| last.is_active()) {
            return Ok(false);
        }
        rebalances::stop(conn).await?;
        // Replicas before routes, the common lock order.
        replicas::delete_queued_moves(conn).await?;
        rebalances::stop_starting(conn).await?;
        rebalances::note(conn, None).await?;
        let (target, detail) = (("stores", "local"), serde_json::json!({}));
        audit::record(conn, origin, by, "store.rebalance_stop", target, detail).await?;
        listen::notify(conn, listen::RUNS, "rebalance").await?;
        Ok(true)
    })
    .await
}
