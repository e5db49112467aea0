//! Administration. Every handler in this module takes `Call<Admin>` or `Call<AdminSession>`.

pub(crate) mod audit;
pub(crate) mod stores;
pub(crate) mod sync;
pub(crate) mod users;
