//! Stores, as administrators see, empty and even them out.

pub(crate) mod drain;
pub(crate) mod list;
pub(crate) mod rebalance;
pub(crate) mod undrain;
