//! Snapshots of the catalogue, and rebuilds.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nightferry_core::catalog::{Adoption, Listed, Rebuilt, Report, Snapshot};
use nightferry_core::db::catalog::Seen;
use serde::Serialize;

/// The state of the catalogue snapshots.
pub fn snapshot_state(report: Option<&Report>) -> impl Serialize {
    document!(
        snapshot: report.and_then(|report| report.snapshot.as_ref()).map(written_snapshot),
        failed: report.and_then(|report| report.failed.as_ref()),
        failing_since: report.and_then(|report| report.failing_since),
    )
}

/// A snapshot that was written.
pub fn written_snapshot(snapshot: &Snapshot) -> impl Serialize {
    document!(
        store: &snapshot.store,
        key: &snapshot.key,
        taken_at: snapshot.taken_at,
        bytes: snapshot.bytes,
        rows: &snapshot.rows,
        pruned: snapshot.pruned,
        millis: millis(snapshot.took),
    )
}

view! {
    /// A snapshot in a store. A snapshot is not verified until it is read.
    #[derive(Debug, Serialize)]
    pub struct ListedSnapshot: from(snapshot: &Listed) {
        /// Key.
        pub key: String = snapshot.key.to_string(),
        /// The time of its content.
        pub taken_at: DateTime<Utc> = snapshot.taken_at,
        /// Size in bytes.
        pub bytes: u64 = snapshot.bytes,
    }
}

/// The result of a rebuild.
pub fn rebuilt_catalog(rebuilt: &Rebuilt) -> impl Serialize {
    document!(
        snapshot: &rebuilt.snapshot,
        taken_at: rebuilt.taken_at,
        restored: &rebuilt.restored,
        listed: &rebuilt.listed,
        objects_examined: rebuilt.examined,
        users_created: rebuilt.imported.users,
        folders_created: rebuilt.imported.folders,
        objects_created: rebuilt.imported.objects,
        files_created: rebuilt.imported.files,
        versions_created: rebuilt.imported.versions,
        files_renamed: rebuilt.imported.renamed,
        copies_found: rebuilt.aligned.found,
        copies_missing: rebuilt.aligned.missing,
        copies_lost: rebuilt.aligned.lost,
        copies_unverified: rebuilt.aligned.unverified,
        snapshots_rejected: rebuilt.rejected,
        objects_unusable: rebuilt.unusable,
        objects_unrecovered: rebuilt.unrecovered,
        millis: millis(rebuilt.took),
    )
}

/// The result of an adoption.
pub fn adopted_objects(adoption: &Adoption) -> impl Serialize {
    document!(
        complete: adoption.complete,
        listed: &adoption.listed,
        objects_examined: adoption.examined,
        objects: adoption.objects,
        bytes: adoption.bytes,
        objects_removed: adoption.removed,
        objects_unlabelled: adoption.unlabelled,
        objects_unusable: adoption.unusable,
        users_created: adoption.imported.users,
        folders_created: adoption.imported.folders,
        files_created: adoption.imported.files,
        versions_created: adoption.imported.versions,
        files_renamed: adoption.imported.renamed,
        copies_recorded: adoption.copies,
        millis: millis(adoption.took),
    )
}

view! {
    /// An object that the database does not know.
    #[derive(Debug, Serialize)]
    pub struct AdoptableObject: from(seen: &Seen) {
        /// Store.
        pub store: String = seen.store.clone(),
        /// Key.
        pub key: String = seen.key.clone(),
        /// Size in bytes.
        pub bytes: u64 = u64::try_from(seen.size).unwrap_or(0),
        /// Email address of the owner, or its id.
        pub owner: String = seen.email.clone().unwrap_or_else(|| seen.owner_id.to_string()),
        /// Path of the file, from the root folder.
        pub path: String = seen.folder.iter().chain([&seen.name]).map(String::as_str).collect::<Vec<_>>().join("/"),
        /// Version, if known.
        pub version: Option<i32> = seen.version,
        /// When it was uploaded.
        pub uploaded_at: DateTime<Utc> = seen.at,
        /// Whether the store proved its content, or it was read.
        pub verified: bool = seen.verified_at.is_some(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
