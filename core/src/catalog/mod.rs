//! The catalogue outside of the database: signed snapshots in the cloud store, and rebuilding an empty database from
//! one, or from the metadata of the objects.
//!
//! [`snapshot`] writes, [`verify`] checks, [`rebuild`] restores, and `adopt` adds what a restored database lacks. The format
//! is in [`format`]; the selection and restoring of rows is SQL, in [`crate::db::catalog`].

mod adopt;
mod decode;
mod due;
mod encode;
mod encrypted;
mod error;
mod examine;
mod format;
mod keys;
mod listing;
mod rebuild;
mod rebuilt;
mod send;
mod snapshot;
mod store_pages;
mod verify;

pub use adopt::{AdoptOptions, Adoption, adopt};
pub use due::{PASS, Report, after_runs, export, latest_report};
pub use error::{CatalogError, Refusal};
pub use format::Counts;
pub use listing::{Listed, list};
pub use rebuild::rebuild;
pub use rebuilt::{Event, Options, Rebuilt, Source};
pub use snapshot::Snapshot;
pub use verify::{Bad, Finding, Verified, verify};
