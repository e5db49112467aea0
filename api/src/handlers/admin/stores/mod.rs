//! Administration of stores: list, drain, rebalance.

pub(crate) mod drain;
pub(crate) mod list;
pub(crate) mod rebalance;
pub(crate) mod undrain;
