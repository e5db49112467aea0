//! The catalogue outside of the database: signed snapshots of it in the cloud store, and the way back from one, or from
//! the labels of the objects alone, into an empty database.
//!
//! [`snapshot`] writes, [`verify`] checks, [`rebuild`] restores. What a snapshot consists of is in [`format`]; which
//! rows are in it, and how they come back, is SQL and stands in [`crate::db::catalog`].

mod decode;
mod due;
mod encode;
mod error;
mod format;
mod keys;
mod listing;
mod look;
mod rebuild;
mod rebuilt;
mod sealed;
mod send;
mod snapshot;
mod store_pages;
mod verify;

pub use due::{PASS, Report, after_runs, export, latest_report};
pub use error::{CatalogError, Refusal};
pub use format::Counts;
pub use listing::{Listed, list};
pub use rebuild::rebuild;
pub use rebuilt::{Event, Options, Rebuilt, Source};
pub use snapshot::Snapshot;
pub use verify::{Bad, Finding, Verified, verify};
