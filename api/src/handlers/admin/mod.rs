//! Administration. Every handler in here takes [`crate::extract::Admin`].

pub(crate) mod stores;
pub(crate) mod sync;
