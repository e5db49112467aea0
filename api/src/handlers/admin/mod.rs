//! Administration. Every handler in this module takes `Caller<Admin>`.

pub(crate) mod audit;
pub(crate) mod stores;
pub(crate) mod sync;
pub(crate) mod users;
