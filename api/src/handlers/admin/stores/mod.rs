//! Stores, as administrators see and empty them.

pub(crate) mod drain;
pub(crate) mod list;
pub(crate) mod undrain;
