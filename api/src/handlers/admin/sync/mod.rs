//! Administration of runs: request, list, cancel.

pub(crate) mod cancel;
pub(crate) mod failures;
pub(crate) mod list;
pub(crate) mod plan;
pub(crate) mod show;
pub(crate) mod start;
