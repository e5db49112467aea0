//! The snapshots in a store: listing, retention, and cleanup of unfinished ones.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

use super::store_pages::Listing;
use crate::config::CatalogConfig;
use crate::retry::{self, RetryPolicy};
use crate::store::{LIST_LIMIT, ObjectKey, SNAPSHOT_PREFIX, Store, StoreError, Verdict};

/// A snapshot in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Key.
    pub key: ObjectKey,
    /// When it was taken.
    pub taken_at: DateTime<Utc>,
    /// Id of the snapshot.
    pub id: Uuid,
    /// Size in bytes.
    pub bytes: u64,
}

/// All snapshots in a store, newest first.
///
/// # Errors
/// Any store error.
pub async fn list(store: &Store) -> Result<Vec<Listed>, StoreError> {
    let mut listing = Listing::new(store, SNAPSHOT_PREFIX);
    let mut found = Vec::new();
    while let Some(page) = listing.page().await? {
        // Other names do not belong to Nightferry.
        found.extend(page.iter().filter_map(|object| {
            let (key, taken_at, id) = ObjectKey::parse_snapshot(&object.key).ok()?;
            Some(Listed { key, taken_at, id, bytes: object.size })
        }));
    }
    found.sort_by(|a, b| b.key.cmp(&a.key));
    Ok(found)
}

/// Deletes the snapshots that need not be retained. Returns their number.
pub(super) async fn prune(store: &Store, config: &CatalogConfig) -> Result<usize, StoreError> {
    let snapshots = list(store).await?;
    let surplus = surplus(&snapshots, config.keep, config.keep_days);
    for snapshot in &surplus {
        retry::retry(&RetryPolicy::default(), || store.delete(&snapshot.key), StoreError::retry).await?;
    }
    Ok(surplus.len())
}

/// Those of `snapshots`, newest first, that need not be retained.
fn surplus(snapshots: &[Listed], keep: usize, keep_days: usize) -> Vec<&Listed> {
    let mut days: BTreeSet<NaiveDate> = BTreeSet::new();
    let mut surplus = Vec::new();
    for (place, snapshot) in snapshots.iter().enumerate() {
        let first_of_its_day = days.insert(snapshot.taken_at.date_naive()) && days.len() <= keep_days;
        if place >= keep && !first_of_its_day {
            surplus.push(snapshot);
        }
    }
    surplus
}

/// Aborts uploads of unfinished snapshots. Only for the holder of the lease for writing one.
pub(super) async fn abort_unfinished(store: &Store) -> Result<(), StoreError> {
    let mut after = None;
    loop {
        let list = || store.list_multipart_uploads_page("", after.as_ref(), LIST_LIMIT);
        let page = match retry::retry(&RetryPolicy::default(), list, StoreError::retry).await {
            // A store whose access key may not list uploads needs a lifecycle rule for them.
            Err(error) if error.verdict() == Verdict::Permanent => return Ok(()),
            listed => listed?,
        };
        for upload in page.uploads {
            if let Ok((key, ..)) = ObjectKey::parse_snapshot(&upload.key) {
                tracing::info!(target: "nightferry::sync", store = %store.name(), %key, "aborted an unfinished \
                    snapshot");
                store.abort_multipart(&key, &upload.upload_id).await?;
            }
        }
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_and_one_of_each_day() {
        let at = |text: &str| {
            let taken_at: DateTime<Utc> = format!("2026-11-{text}:00Z").parse().unwrap();
            let id = Uuid::nil();
            Listed { key: ObjectKey::of_snapshot(taken_at, id), taken_at, id, bytes: 1 }
        };
        let all =
            ["21T09:00", "21T08:00", "21T07:00", "20T09:00", "20T08:00", "19T09:00", "18T09:00"].map(at);
        let gone = |keep, days| {
            surplus(&all, keep, days)
                .iter()
                .map(|s| s.taken_at.format("%dT%H").to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(gone(2, 3), ["21T07", "20T08", "18T09"]);
        assert_eq!(gone(2, 0), ["21T07", "20T09", "20T08", "19T09", "18T09"]);
        assert_eq!(gone(100, 0), Vec::<String>::new());
        assert_eq!(gone(1, 100), ["21T08", "21T07", "20T08"]);
    }
}
