//! Snapshots of the catalogue, and rebuilds.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use nightferry_core::catalog::{Counts, Listed, Rebuilt, Report, Snapshot};
use serde::Serialize;

/// The state of the catalogue snapshots.
#[derive(Debug, Serialize)]
pub struct SnapshotState {
    snapshot: Option<WrittenSnapshot>,
    failed: Option<String>,
    failing_since: Option<DateTime<Utc>>,
}

impl From<Option<&Report>> for SnapshotState {
    fn from(report: Option<&Report>) -> Self {
        Self {
            snapshot: report.and_then(|report| report.snapshot.as_ref()).map(WrittenSnapshot::from),
            failed: report.and_then(|report| report.failed.clone()),
            failing_since: report.and_then(|report| report.failing_since),
        }
    }
}

/// A snapshot that was written.
#[derive(Debug, Serialize)]
pub struct WrittenSnapshot {
    store: String,
    key: String,
    taken_at: DateTime<Utc>,
    bytes: u64,
    rows: Counts,
    pruned: usize,
    millis: u64,
}

impl From<&Snapshot> for WrittenSnapshot {
    fn from(snapshot: &Snapshot) -> Self {
        Self {
            store: snapshot.store.clone(),
            key: snapshot.key.clone(),
            taken_at: snapshot.taken_at,
            bytes: snapshot.bytes,
            rows: snapshot.rows.clone(),
            pruned: snapshot.pruned,
            millis: millis(snapshot.took),
        }
    }
}

/// A snapshot in a store. A snapshot is not verified until it is read.
#[derive(Debug, Serialize)]
pub struct ListedSnapshot {
    /// Key.
    pub key: String,
    /// The time of its content.
    pub taken_at: DateTime<Utc>,
    /// Size in bytes.
    pub bytes: u64,
}

impl From<&Listed> for ListedSnapshot {
    fn from(snapshot: &Listed) -> Self {
        Self { key: snapshot.key.to_string(), taken_at: snapshot.taken_at, bytes: snapshot.bytes }
    }
}

/// The result of a rebuild.
#[derive(Debug, Serialize)]
pub struct RebuiltCatalog {
    snapshot: Option<String>,
    taken_at: Option<DateTime<Utc>>,
    restored: Counts,
    listed: BTreeMap<String, u64>,
    looked_at: u64,
    users_made: u64,
    folders_made: u64,
    objects_made: u64,
    files_made: u64,
    versions_made: u64,
    files_renamed: u64,
    copies_found: u64,
    copies_gone: u64,
    copies_lost: u64,
    snapshots_refused: u64,
    objects_unusable: u64,
    objects_left_out: u64,
    millis: u64,
}

impl From<&Rebuilt> for RebuiltCatalog {
    fn from(rebuilt: &Rebuilt) -> Self {
        Self {
            snapshot: rebuilt.snapshot.clone(),
            taken_at: rebuilt.taken_at,
            restored: rebuilt.restored.clone(),
            listed: rebuilt.listed.clone(),
            looked_at: rebuilt.looked,
            users_made: rebuilt.folded.users,
            folders_made: rebuilt.folded.folders,
            objects_made: rebuilt.folded.objects,
            files_made: rebuilt.folded.files,
            versions_made: rebuilt.folded.versions,
            files_renamed: rebuilt.folded.renamed,
            copies_found: rebuilt.settled.found,
            copies_gone: rebuilt.settled.gone,
            copies_lost: rebuilt.settled.lost,
            snapshots_refused: rebuilt.refused,
            objects_unusable: rebuilt.strange,
            objects_left_out: rebuilt.left_out,
            millis: millis(rebuilt.took),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
