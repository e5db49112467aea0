//! Evening out the local stores.

use chrono::{DateTime, Utc};
use nightferry_core::db::rebalances;
use nightferry_core::db::unsigned;
use nightferry_core::tiering::relocate::rebalance::{LeftOut, Plan, Rebalancing, Share, moved};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// What to even out, and how exactly.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AskRebalance {
    /// Per cent by which the share of a store may differ from the mean; 5 when left out.
    #[schema(minimum = 0, maximum = 100, example = 5)]
    pub tolerance: Option<u8>,
    /// `local`, which is the default: other stores are not evened out.
    #[schema(example = "local")]
    pub role: Option<String>,
}

/// What to plan.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RebalanceQuery {
    /// Per cent by which the share of a store may differ from the mean; 5 when left out.
    #[param(value_type = Option<u8>, minimum = 0, maximum = 100)]
    pub tolerance: Option<String>,
    /// `local`, which is the default: other stores are not evened out.
    pub role: Option<String>,
}

/// What would move where, and what is moving.
#[derive(Serialize, ToSchema)]
pub struct RebalancePlan {
    /// Per cent by which the share of a store may differ from the mean.
    #[schema(example = 5)]
    pub tolerance: u8,
    /// What shares are shares of: `capacity`, or `bytes` (all that these stores hold) where not every store has one.
    #[schema(example = "capacity")]
    pub measure: &'static str,
    /// The local stores, the main one first.
    pub stores: Vec<StoreShare>,
    /// What would move; empty when every store is within the tolerance.
    pub moves: Vec<Move>,
    /// Files that would move.
    pub files: u64,
    /// Bytes of those.
    pub bytes: u64,
    /// What was asked for last, if ever.
    pub rebalance: Option<Rebalance>,
}

/// How full a store is, and would be.
#[derive(Serialize, ToSchema)]
pub struct StoreShare {
    /// Name.
    #[schema(example = "minio")]
    pub name: String,
    /// Bytes that it may hold, if that is limited.
    pub capacity_bytes: Option<u64>,
    /// Bytes that it holds.
    pub used_bytes: u64,
    /// Its share in per cent; none where it does not take part.
    #[schema(example = 81.5)]
    pub share: Option<f64>,
    /// Bytes that it would hold after what is under way and these moves.
    pub after_bytes: u64,
    /// Its share then.
    #[schema(example = 50.1)]
    pub after_share: Option<f64>,
    /// Why it neither gives nor takes: `draining`, `down` or `in_doubt`.
    pub left_out: Option<&'static str>,
}

/// What goes from one store to another.
#[derive(Serialize, ToSchema)]
pub struct Move {
    /// From.
    #[schema(example = "minio")]
    pub from: String,
    /// To.
    #[schema(example = "nas")]
    pub to: String,
    /// Files.
    pub files: u64,
    /// Bytes of those.
    pub bytes: u64,
}

/// What was asked for, and how far it is.
#[derive(Serialize, ToSchema)]
pub struct Rebalance {
    /// `running`, `stopping` (called off; what is on its way still ends), `stopped` or `finished`.
    #[schema(example = "running")]
    pub state: &'static str,
    /// When it was asked for.
    pub requested_at: DateTime<Utc>,
    /// Who asked for it; none for the command line.
    pub requested_by: Option<Uuid>,
    /// Per cent by which the share of a store may differ from the mean.
    pub tolerance: u8,
    /// Files that were to move.
    pub files_total: u64,
    /// Bytes of those.
    pub bytes_total: u64,
    /// Files that have moved.
    pub files_moved: u64,
    /// Bytes of those.
    pub bytes_moved: u64,
    /// What goes where.
    pub routes: Vec<Route>,
    /// What it waits for, in words.
    pub waits_for: Option<String>,
    /// When it was called off.
    pub stopped_at: Option<DateTime<Utc>>,
    /// When nothing of it was under way any more.
    pub finished_at: Option<DateTime<Utc>>,
}

/// What goes from one store to another, and how far that is.
#[derive(Serialize, ToSchema)]
pub struct Route {
    /// From.
    #[schema(example = "minio")]
    pub from: String,
    /// To.
    #[schema(example = "nas")]
    pub to: String,
    /// Files that were to move.
    pub files_total: u64,
    /// Bytes of those.
    pub bytes_total: u64,
    /// Files that have moved.
    pub files_moved: u64,
    /// Bytes of those.
    pub bytes_moved: u64,
}

impl RebalancePlan {
    /// A plan, and what was asked for last.
    pub fn new(plan: &Plan, last: Option<&Rebalancing>) -> Self {
        let (files, bytes) = plan.total();
        let moves = plan.shifts.iter().map(|shift| Move {
            from: shift.from.clone(),
            to: shift.to.clone(),
            files: shift.files,
            bytes: shift.bytes,
        });
        Self {
            tolerance: plan.tolerance,
            measure: plan.measure(),
            stores: plan.stores.iter().map(StoreShare::from).collect(),
            moves: moves.collect(),
            files,
            bytes,
            rebalance: last.map(Rebalance::from),
        }
    }
}

impl From<&Share> for StoreShare {
    fn from(share: &Share) -> Self {
        Self {
            name: share.name.clone(),
            capacity_bytes: share.capacity,
            used_bytes: share.used,
            share: share.share.map(Share::per_cent),
            after_bytes: share.after,
            after_share: share.share_after.map(Share::per_cent),
            left_out: share.left_out.map(LeftOut::as_str),
        }
    }
}

impl From<&rebalances::Route> for Route {
    fn from(route: &rebalances::Route) -> Self {
        let (files_moved, bytes_moved) = moved(route);
        Self {
            from: route.from_store.clone(),
            to: route.to_store.clone(),
            files_total: unsigned(route.files_planned),
            bytes_total: unsigned(route.bytes_planned),
            files_moved,
            bytes_moved,
        }
    }
}

impl From<&Rebalancing> for Rebalance {
    fn from(rebalancing: &Rebalancing) -> Self {
        let ((files_total, bytes_total), (files_moved, bytes_moved)) =
            (rebalancing.planned(), rebalancing.moved());
        let asked = &rebalancing.rebalance;
        Self {
            state: rebalancing.state(),
            requested_at: asked.requested_at,
            requested_by: asked.requested_by.map(|user| user.0),
            tolerance: u8::try_from(asked.tolerance).unwrap_or_default(),
            files_total,
            bytes_total,
            files_moved,
            bytes_moved,
            routes: rebalancing.routes.iter().map(Route::from).collect(),
            waits_for: asked.waits_for.clone(),
            stopped_at: asked.stopped_at,
            finished_at: asked.finished_at,
        }
    }
}
