//! How long the audit log is kept.

use std::time::Duration;

use super::declare::settings;
use super::problem::Problems;

/// What is worth writing down is worth keeping for a day.
const SHORTEST: Duration = Duration::from_secs(86_400);

settings! {
    /// The `[audit]` section.
    pub struct AuditConfig {
        /// How long events are kept in the audit log, at least a day; "never" deletes none.
        pub retention: Option<Duration> = "365d", or_never();
    }
}

impl AuditConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.retention.is_some_and(|retention| retention < SHORTEST) {
            problems.add("audit.retention", "is less than a day", "give at least \"1d\", or \"never\"");
        }
    }
}
