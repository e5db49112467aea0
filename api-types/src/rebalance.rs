//! Rebalancing of the local stores.

use chrono::{DateTime, Utc};
use nightferry_core::db::rebalances;
use nightferry_core::db::unsigned;
use nightferry_core::tiering::relocate::rebalance::{Exclusion, Plan, Rebalancing, Share, moved};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// The scope and the tolerance of a rebalancing.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AskRebalance {
    /// Percentage by which the share of a store may differ from the mean; 5 by default.
    #[schema(minimum = 0, maximum = 100, example = 5)]
    pub tolerance: Option<u8>,
    /// `local`, the default: other stores cannot be rebalanced.
    #[schema(example = "local")]
    pub role: Option<String>,
}

/// Parameters of a plan.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RebalanceQuery {
    /// Percentage by which the share of a store may differ from the mean; 5 by default.
    #[param(value_type = Option<u8>, minimum = 0, maximum = 100)]
    pub tolerance: Option<String>,
    /// `local`, the default: other stores cannot be rebalanced.
    pub role: Option<String>,
}

/// The plan, and the progress of a requested rebalancing.
#[derive(Serialize, ToSchema)]
pub struct RebalancePlan {
    /// Percentage by which the share of a store may differ from the mean.
    #[schema(example = 5)]
    pub tolerance: u8,
    /// The basis of the shares: `capacity`, or `bytes` (all bytes in these stores) if not every store has a capacity.
    #[schema(example = "capacity")]
    pub measure: &'static str,
    /// The local stores, the main one first.
    pub stores: Vec<StoreShare>,
    /// The planned moves; empty if every store is within the tolerance.
    pub moves: Vec<Move>,
    /// The number of files to move.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The last requested rebalancing, if any.
    pub rebalance: Option<Rebalance>,
}

view! {
    /// The current and the resulting usage of a store.
    #[derive(Serialize, ToSchema)]
    pub struct StoreShare: from(share: &Share) {
        /// Name.
        #[schema(example = "minio")]
        pub name: String = share.name.clone(),
        /// Capacity in bytes, if limited.
        pub capacity_bytes: Option<u64> = share.capacity,
        /// Bytes used.
        pub used_bytes: u64 = share.used,
        /// Share in percent; null if the store is excluded.
        #[schema(example = 81.5)]
        pub share: Option<f64> = share.share.map(Share::per_cent),
        /// Bytes used after the moves in progress and the planned moves.
        pub after_bytes: u64 = share.after,
        /// The resulting share.
        #[schema(example = 50.1)]
        pub after_share: Option<f64> = share.share_after.map(Share::per_cent),
        /// Why the store is excluded: `draining`, `unhealthy` or `suspect`.
        pub excluded: Option<&'static str> = share.excluded.map(Exclusion::as_str),
    }
}

/// The moves from one store to another.
#[derive(Serialize, ToSchema)]
pub struct Move {
    /// Source.
    #[schema(example = "minio")]
    pub from: String,
    /// Destination.
    #[schema(example = "nas")]
    pub to: String,
    /// Number of files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

view! {
    /// The request and its progress.
    #[derive(Serialize, ToSchema)]
    pub struct Rebalance: from(rebalancing: &Rebalancing) {
        /// `running`, `stopping` (stopped; moves in progress finish), `stopped` or `finished`.
        #[schema(example = "running")]
        pub state: &'static str = rebalancing.state(),
        /// When it was requested.
        pub requested_at: DateTime<Utc> = rebalancing.rebalance.requested_at,
        /// The account that requested it; null for the command line.
        pub requested_by: Option<Uuid> = rebalancing.rebalance.requested_by.map(|user| user.0),
        /// Percentage by which the share of a store may differ from the mean.
        pub tolerance: u8 = u8::try_from(rebalancing.rebalance.tolerance).unwrap_or_default(),
        /// The number of planned files.
        pub files_total: u64 = rebalancing.planned().0,
        /// Their bytes.
        pub bytes_total: u64 = rebalancing.planned().1,
        /// The number of moved files.
        pub files_moved: u64 = rebalancing.moved().0,
        /// Their bytes.
        pub bytes_moved: u64 = rebalancing.moved().1,
        /// The routes.
        pub routes: Vec<Route> = rebalancing.routes.iter().map(Route::from).collect(),
        /// What it is waiting for, as text.
        pub waits_for: Option<String> = rebalancing.rebalance.waits_for.clone(),
        /// When it was stopped.
        pub stopped_at: Option<DateTime<Utc>> = rebalancing.rebalance.stopped_at,
        /// When the last move ended.
        pub finished_at: Option<DateTime<Utc>> = rebalancing.rebalance.finished_at,
    }
}

view! {
    /// A route from one store to another, and its progress.
    #[derive(Serialize, ToSchema)]
    pub struct Route: from(route: &rebalances::Route) {
        /// Source.
        #[schema(example = "minio")]
        pub from: String = route.from_store.clone(),
        /// Destination.
        #[schema(example = "nas")]
        pub to: String = route.to_store.clone(),
        /// The number of planned files.
        pub files_total: u64 = unsigned(route.files_planned),
        /// Their bytes.
        pub bytes_total: u64 = unsigned(route.bytes_planned),
        /// The number of moved files.
        pub files_moved: u64 = moved(route).0,
        /// Their bytes.
        pub bytes_moved: u64 = moved(route).1,
    }
}

impl RebalancePlan {
    /// Creates the view of a plan and the last rebalancing.
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
