//! Files.

pub(crate) mod download;
pub(crate) mod file;
pub(crate) mod list;

pub(crate) use list::folder;
