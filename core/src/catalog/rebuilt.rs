//! Options, progress and result of a rebuild.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::format::Counts;
use crate::db::audit::Origin;
use crate::db::catalog::{Aligned, ImportedRows, Seen};

/// The source of a rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The newest valid snapshot.
    Newest,
    /// Only this snapshot.
    Snapshot(String),
    /// The metadata of the objects.
    Objects,
}

/// Options of a rebuild.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// The source.
    pub source: Source,
    /// Whether everything is rolled back at the end.
    pub trial: bool,
    /// The origin of the request, for the audit log.
    pub origin: &'a Origin,
}

/// Progress events.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A snapshot was rejected; the next older one is tried.
    Refused {
        /// Key.
        key: &'a str,
        /// The reason.
        why: &'a str,
    },
    /// Restored rows so far.
    Restored(&'a Counts),
    /// Listed objects of a store so far.
    Listed {
        /// Store.
        store: &'a str,
        /// Number of objects.
        objects: u64,
    },
    /// Examined objects so far.
    Examined(u64),
    /// An unknown object that can be adopted.
    Adoptable(&'a Seen),
    /// An unusable object.
    Unusable {
        /// Store.
        store: &'a str,
        /// Key.
        key: &'a str,
        /// The reason.
        why: &'a str,
    },
}

/// The result of a rebuild.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The snapshot used.
    pub snapshot: Option<String>,
    /// The time of its content.
    pub taken_at: Option<DateTime<Utc>>,
    /// Newer snapshots that were rejected.
    pub rejected: u64,
    /// Rows restored from the snapshot, by table.
    pub restored: Counts,
    /// Objects listed, by store.
    pub listed: BTreeMap<String, u64>,
    /// Objects examined individually.
    pub examined: u64,
    /// Unusable objects.
    pub unusable: u64,
    /// Unknown objects older than the snapshot: left for reconcile.
    pub unrecovered: u64,
    /// Rows created from metadata.
    pub imported: ImportedRows,
    /// The number of updated rows.
    pub aligned: Aligned,
    /// How long the operation took.
    pub took: Duration,
}
