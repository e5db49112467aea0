//! Files.

pub(crate) mod change;
pub(crate) mod delete;
pub(crate) mod download;
pub(crate) mod download_url;
pub(crate) mod list;
pub(crate) mod placement;
pub(crate) mod show;
pub(crate) mod sync;
pub(crate) mod upload;
