//! Evening out the local stores.

use chrono::{DateTime, Utc};
use nightferry_core::store::StoreRole;
use nightferry_core::tiering::relocate::rebalance::{self, Plan, Rebalancing, Share, moved};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use crate::error_response::Result;
use crate::extract::{choice, whole_number};

/// What to even out, and how exactly.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct AskRebalance {
    /// Per cent by which the share of a store may differ from the mean; 5 when left out.
    #[schema(minimum = 0, maximum = 100, example = 5)]
    tolerance: Option<u8>,
    /// `local`, which is the default: other stores are not evened out.
    #[schema(example = "local")]
    role: Option<String>,
}

impl AskRebalance {
    /// The tolerance that is asked for.
    pub(crate) fn tolerance(&self) -> Result<u8> {
        role(self.role.as_deref())?;
        Ok(self.tolerance.unwrap_or(rebalance::TOLERANCE))
    }
}

/// What to plan.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RebalanceQuery {
    /// Per cent by which the share of a store may differ from the mean; 5 when left out.
    #[param(value_type = Option<u8>, minimum = 0, maximum = 100)]
    tolerance: Option<String>,
    /// `local`, which is the default: other stores are not evened out.
    role: Option<String>,
}

impl RebalanceQuery {
    /// The tolerance that is asked for.
    pub(crate) fn tolerance(&self) -> Result<u8> {
        role(self.role.as_deref())?;
        let tolerance = whole_number("tolerance", self.tolerance.as_deref(), 0..=100)?;
        Ok(tolerance.and_then(|number| u8::try_from(number).ok()).unwrap_or(rebalance::TOLERANCE))
    }
}

fn role(text: Option<&str>) -> Result<()> {
    let roles = [StoreRole::Local, StoreRole::Cloud].map(|role| (role.as_str(), role));
    let role = choice("role", text, &roles)?.unwrap_or(StoreRole::Local);
    Ok(rebalance::check_role(role)?)
}

/// What would move where, and what is moving.
#[derive(Serialize, ToSchema)]
pub(crate) struct RebalancePlan {
    /// Per cent by which the share of a store may differ from the mean.
    #[schema(example = 5)]
    tolerance: u8,
    /// What shares are shares of: `capacity`, or `bytes` (all that these stores hold) where not every store has one.
    #[schema(example = "capacity")]
    measure: &'static str,
    /// The local stores, the main one first.
    stores: Vec<StoreShare>,
    /// What would move; empty when every store is within the tolerance.
    moves: Vec<Move>,
    /// Files that would move.
    files: u64,
    /// Bytes of those.
    bytes: u64,
    /// What was asked for last, if ever.
    rebalance: Option<Rebalance>,
}

/// How full a store is, and would be.
#[derive(Serialize, ToSchema)]
pub(crate) struct StoreShare {
    /// Name.
    #[schema(example = "minio")]
    name: String,
    /// Bytes that it may hold, if that is limited.
    capacity_bytes: Option<u64>,
    /// Bytes that it holds.
    used_bytes: u64,
    /// Its share in per cent; none where it does not take part.
    #[schema(example = 81.5)]
    share: Option<f64>,
    /// Bytes that it would hold after what is under way and these moves.
    after_bytes: u64,
    /// Its share then.
    #[schema(example = 50.1)]
    after_share: Option<f64>,
    /// Why it neither gives nor takes: `draining`, `down` or `in_doubt`.
    left_out: Option<&'static str>,
}

/// What goes from one store to another.
#[derive(Serialize, ToSchema)]
pub(crate) struct Move {
    /// From.
    #[schema(example = "minio")]
    from: String,
    /// To.
    #[schema(example = "nas")]
    to: String,
    /// Files.
    files: u64,
    /// Bytes of those.
    bytes: u64,
}

/// What was asked for, and how far it is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Rebalance {
    /// `running`, `stopping` (called off; what is on its way still ends), `stopped` or `finished`.
    #[schema(example = "running")]
    state: &'static str,
    /// When it was asked for.
    requested_at: DateTime<Utc>,
    /// Who asked for it; none for the command line.
    requested_by: Option<Uuid>,
    /// Per cent by which the share of a store may differ from the mean.
    tolerance: u8,
    /// Files that were to move.
    files_total: u64,
    /// Bytes of those.
    bytes_total: u64,
    /// Files that have moved.
    files_moved: u64,
    /// Bytes of those.
    bytes_moved: u64,
    /// What goes where.
    routes: Vec<Route>,
    /// What it waits for, in words.
    waits_for: Option<String>,
    /// When it was called off.
    stopped_at: Option<DateTime<Utc>>,
    /// When nothing of it was under way any more.
    finished_at: Option<DateTime<Utc>>,
}

/// What goes from one store to another, and how far that is.
#[derive(Serialize, ToSchema)]
pub(crate) struct Route {
    /// From.
    #[schema(example = "minio")]
    from: String,
    /// To.
    #[schema(example = "nas")]
    to: String,
    /// Files that were to move.
    files_total: u64,
    /// Bytes of those.
    bytes_total: u64,
    /// Files that have moved.
    files_moved: u64,
    /// Bytes of those.
    bytes_moved: u64,
}

impl RebalancePlan {
    /// As it is answered.
    pub(crate) fn of(plan: Plan, last: Option<Rebalancing>) -> Self {
        let (files, bytes) = plan.total();
        Self {
            tolerance: plan.tolerance,
            measure: plan.measure(),
            stores: plan.stores.into_iter().map(StoreShare::from).collect(),
            moves: plan
                .shifts
                .into_iter()
                .map(|it| Move { from: it.from, to: it.to, files: it.files, bytes: it.bytes })
                .collect(),
            files,
            bytes,
            rebalance: last.map(Rebalance::from),
        }
    }
}

impl From<Share> for StoreShare {
    fn from(share: Share) -> Self {
        Self {
            share: share.share.map(Share::per_cent),
            after_share: share.share_after.map(Share::per_cent),
            left_out: share.left_out.map(rebalance::LeftOut::as_str),
            name: share.name,
            capacity_bytes: share.capacity,
            used_bytes: share.used,
            after_bytes: share.after,
        }
    }
}

impl From<Rebalancing> for Rebalance {
    fn from(rebalancing: Rebalancing) -> Self {
        let ((files_total, bytes_total), (files_moved, bytes_moved)) =
            (rebalancing.planned(), rebalancing.moved());
        let route = |route: &nightferry_core::db::rebalances::Route| {
            let (files_moved, bytes_moved) = moved(route);
            Route {
                from: route.from_store.clone(),
                to: route.to_store.clone(),
                files_total: nightferry_core::db::unsigned(route.files_planned),
                bytes_total: nightferry_core::db::unsigned(route.bytes_planned),
                files_moved,
                bytes_moved,
            }
        };
        Self {
            state: rebalancing.state(),
            routes: rebalancing.routes.iter().map(route).collect(),
            requested_at: rebalancing.rebalance.requested_at,
            requested_by: rebalancing.rebalance.requested_by.map(|user| user.0),
            tolerance: u8::try_from(rebalancing.rebalance.tolerance).unwrap_or_default(),
            files_total,
            bytes_total,
            files_moved,
            bytes_moved,
            waits_for: rebalancing.rebalance.waits_for,
            stopped_at: rebalancing.rebalance.stopped_at,
            finished_at: rebalancing.rebalance.finished_at,
        }
    }
}
