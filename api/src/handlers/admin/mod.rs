//! Administration. Every handler in here takes `Caller<Admin>`.

pub(crate) mod sync;
