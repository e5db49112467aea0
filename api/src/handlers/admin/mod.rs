//! Administration. Every handler in here takes [`crate::extract::Admin`].

pub(crate) mod audit;
pub(crate) mod sync;
pub(crate) mod users;
