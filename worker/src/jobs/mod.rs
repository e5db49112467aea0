//! Background jobs, one file each.

mod archive;
mod catalog;
mod drain;
mod expired_rows;
mod housekeeping;
mod rebalance;
mod reconcile;
mod scrub;

pub(crate) use archive::archive;
pub(crate) use catalog::catalog;
pub(crate) use drain::{DrainPace, drain};
pub(crate) use expired_rows::expired_rows;
pub(crate) use housekeeping::housekeeping;
pub(crate) use rebalance::{RebalancePace, rebalance};
pub(crate) use reconcile::reconcile;
pub(crate) use scrub::scrub;
