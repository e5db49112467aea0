//! Evening out the local stores: what would move, and how far it is.

use chrono::{DateTime, Utc};
use nightferry_core::db::rebalances::Route;
use nightferry_core::db::unsigned;
use nightferry_core::tiering::relocate::rebalance::{LeftOut, Plan, Rebalancing, Share, moved};
use serde::Serialize;

/// What would move.
#[derive(Debug, Serialize)]
pub(crate) struct RebalancePlanDocument {
    tolerance: u8,
    measure: &'static str,
    stores: Vec<StoreShareDocument>,
    moves: Vec<MoveDocument>,
    files: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct StoreShareDocument {
    name: String,
    capacity_bytes: Option<u64>,
    used_bytes: u64,
    share: Option<f64>,
    after_bytes: u64,
    after_share: Option<f64>,
    left_out: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct MoveDocument {
    from: String,
    to: String,
    files: u64,
    bytes: u64,
}

/// What was asked for, and how far it is.
#[derive(Debug, Serialize)]
pub(crate) struct RebalanceDocument {
    state: &'static str,
    requested_at: DateTime<Utc>,
    tolerance: i16,
    files_total: u64,
    bytes_total: u64,
    files_moved: u64,
    bytes_moved: u64,
    routes: Vec<RouteDocument>,
    waits_for: Option<String>,
    stopped_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

#[derive(Debug, Serialize)]
struct RouteDocument {
    from: String,
    to: String,
    files_total: u64,
    bytes_total: u64,
    files_moved: u64,
    bytes_moved: u64,
}

impl RebalancePlanDocument {
    pub(crate) fn of(plan: &Plan) -> Self {
        let (files, bytes) = plan.total();
        let share = |store: &Share| StoreShareDocument {
            name: store.name.clone(),
            capacity_bytes: store.capacity,
            used_bytes: store.used,
            share: store.share.map(Share::per_cent),
            after_bytes: store.after,
            after_share: store.share_after.map(Share::per_cent),
            left_out: store.left_out.map(LeftOut::as_str),
        };
        let moves = plan.shifts.iter().map(|shift| MoveDocument {
            from: shift.from.clone(),
            to: shift.to.clone(),
            files: shift.files,
            bytes: shift.bytes,
        });
        Self {
            tolerance: plan.tolerance,
            measure: plan.measure(),
            stores: plan.stores.iter().map(share).collect(),
            moves: moves.collect(),
            files,
            bytes,
        }
    }
}

impl RebalanceDocument {
    pub(crate) fn of(rebalancing: &Rebalancing) -> Self {
        let ((files_total, bytes_total), (files_moved, bytes_moved)) =
            (rebalancing.planned(), rebalancing.moved());
        let route = |route: &Route| {
            let (files_moved, bytes_moved) = moved(route);
            RouteDocument {
                from: route.from_store.clone(),
                to: route.to_store.clone(),
                files_total: unsigned(route.files_planned),
                bytes_total: unsigned(route.bytes_planned),
                files_moved,
                bytes_moved,
            }
        };
        let rebalance = &rebalancing.rebalance;
        Self {
            state: rebalancing.state(),
            requested_at: rebalance.requested_at,
            tolerance: rebalance.tolerance,
            files_total,
            bytes_total,
            files_moved,
            bytes_moved,
            routes: rebalancing.routes.iter().map(route).collect(),
            waits_for: rebalance.waits_for.clone(),
            stopped_at: rebalance.stopped_at,
            finished_at: rebalance.finished_at,
        }
    }
}
