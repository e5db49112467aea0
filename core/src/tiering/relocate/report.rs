//! The result of a relocation pass, and the reasons for waiting as text.

use std::collections::BTreeSet;

use crate::db::drains::Left;

/// Maximum number of copies queued at once: enough to keep workers busy, few enough to examine repeatedly.
pub(super) const MAX_UNDER_WAY: usize = 5_000;

/// The result of a pass so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) evicted: usize,
    /// Queued by this pass.
    pub(super) queued: usize,
    /// Other changes: cancelled moves, deleted leftovers.
    pub(super) changed: usize,
    /// Queued or being copied before this pass.
    pub(super) under_way: usize,
    /// Failed; retried after a delay.
    pub(super) failed: usize,
    /// Marked for eviction and not deleted.
    pub(super) not_deleted: usize,
    /// Multipart uploads that could not be aborted.
    pub(super) not_aborted: usize,
    /// Without a readable verified copy anywhere.
    pub(super) without_source: usize,
    /// Copied to its destination, and archived there.
    pub(super) archived: usize,
    /// Stores that are not healthy.
    pub(super) unhealthy: BTreeSet<String>,
    /// Stores that accept nothing more.
    pub(super) full: BTreeSet<String>,
    pub(super) last_error: Option<String>,
}

impl Report {
    /// Copies to the target stores that are in progress or wait for a retry.
    pub(super) fn pending(&self) -> usize {
        self.queued + self.under_way + self.failed
    }

    /// Whether nothing remains to be moved.
    pub(super) fn is_nothing_left(&self) -> bool {
        self.pending() + self.without_source + self.archived + self.not_deleted + self.not_aborted == 0
    }

    /// Whether this pass changed anything.
    pub(super) fn has_changed(&self) -> bool {
        self.evicted + self.queued + self.changed > 0
    }

    /// What the relocation waits for. `to` and `from` name the stores; `left` counts what a store that is being drained
    /// still holds.
    pub(super) fn waits_for(&self, from: &str, to: &[&str], left: Option<Left>) -> Option<String> {
        let mut reasons: Vec<String> =
            self.unhealthy.iter().map(|store| format!("{store} is down or suspect")).collect();
        reasons.extend(self.full.iter().map(|store| format!("{store} is full")));
        let to = if to.is_empty() { String::new() } else { format!(" to {}", to.join(" or ")) };
        let left = left.unwrap_or_default();
        let count = |count: i64| usize::try_from(count).unwrap_or(usize::MAX);
        let counts = [
            (self.under_way + self.queued, format!("to be copied{to}")),
            (self.failed, format!("whose copy{to} failed and will be retried")),
            (self.without_source, "without a readable verified copy anywhere".to_owned()),
            (
                self.archived,
                "whose only other copies are archived or being evicted, and could not be read".to_owned(),
            ),
            (self.not_deleted, format!("copied and not yet deleted from {from}")),
            (self.not_aborted, "whose interrupted upload could not be aborted".to_owned()),
            (count(left.replicas), "not examined yet".to_owned()),
            (count(left.copies), format!("whose copy to {from} is still in progress")),
            (
                count(left.others),
                format!("whose upload to {from}, or deletion from it, is still in progress"),
            ),
        ];
        reasons.extend(
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")),
        );
        let texts = [Some(reasons.join("; ")).filter(|text| !text.is_empty()), self.last_error.clone()];
        texts.into_iter().flatten().reduce(|text, error| format!("{text}: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_name_the_stores_the_counts_and_the_last_error() {
        let mut report = Report { queued: 2, under_way: 1, not_deleted: 4, ..Report::default() };
        assert_eq!(
            report.waits_for("minio", &["nas", "s3"], None).unwrap(),
            "3 to be copied to nas or s3; 4 copied and not yet deleted from minio"
        );
        report.unhealthy.insert("nas".to_owned());
        report.last_error = Some("AccessDenied".to_owned());
        assert_eq!(
            report.waits_for("the source store", &[], None).unwrap(),
            "nas is down or suspect; 3 to be copied; 4 copied and not yet deleted from the source store: AccessDenied"
        );
        report.unhealthy.clear();
        report.full.insert("nas".to_owned());
        assert!(report.waits_for("minio", &[], None).unwrap().starts_with("nas is full; 3 to be copied"));
        let left = Left { others: 1, ..Left::default() };
        let nothing = Report::default();
        assert_eq!(
            nothing.waits_for("minio", &[], Some(left)).unwrap(),
            "1 whose upload to minio, or deletion from it, is still in progress"
        );
        assert_eq!(nothing.waits_for("minio", &[], None), None);
        assert!(nothing.is_nothing_left() && !nothing.has_changed());
    }
}
