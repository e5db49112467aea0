//! Administration. Every handler in here takes `Caller<Admin>`.

pub(crate) mod audit;
pub(crate) mod stores;
pub(crate) mod sync;
pub(crate) mod users;
