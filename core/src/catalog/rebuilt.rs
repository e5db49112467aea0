//! What is asked of a rebuilding, what it tells meanwhile, and what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::format::Counts;
use crate::db::audit::Origin;
use crate::db::catalog::{Folded, Settled};

/// From what to rebuild.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The newest snapshot that can be believed.
    Newest,
    /// This snapshot, and no other.
    Snapshot(String),
    /// The labels of the objects.
    Objects,
}

/// How to rebuild.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// From what.
    pub source: Source,
    /// Whether everything is undone at the end.
    pub trial: bool,
    /// Who asks.
    pub origin: &'a Origin,
}

/// What happens meanwhile, for whoever watches.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// A snapshot cannot be used; the next older one is tried.
    Refused {
        /// Its key.
        key: &'a str,
        /// Why.
        why: &'a str,
    },
    /// Rows that were put back so far.
    Restored(&'a Counts),
    /// Objects of a store that were listed so far.
    Listed {
        /// Store.
        store: &'a str,
        /// How many.
        objects: u64,
    },
    /// Objects that were looked at so far.
    Looked(u64),
    /// An object that cannot be used.
    Strange {
        /// Store.
        store: &'a str,
        /// Key.
        key: &'a str,
        /// Why.
        why: &'a str,
    },
}

/// What was rebuilt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// The snapshot that it began with.
    pub snapshot: Option<String>,
    /// The moment that it shows.
    pub taken_at: Option<DateTime<Utc>>,
    /// Newer snapshots that could not be used.
    pub refused: u64,
    /// Rows put back from the snapshot, by table.
    pub restored: Counts,
    /// Objects listed, by store.
    pub listed: BTreeMap<String, u64>,
    /// Objects looked at one by one.
    pub looked: u64,
    /// Objects that cannot be used.
    pub strange: u64,
    /// Objects that nobody knows and that are older than the snapshot: left to reconcile.
    pub left_out: u64,
    /// What was made from labels.
    pub folded: Folded,
    /// What was put in line.
    pub settled: Settled,
    /// How long it took.
    pub took: Duration,
}
