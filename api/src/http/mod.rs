//! HTTP semantics of downloads: conditions, ranges and names. Pure: no request, no file, no store.

pub(crate) mod conditional;
pub(crate) mod content_type;
pub(crate) mod disposition;
pub(crate) mod range;
