//! Retention of the audit log.

use std::time::Duration;

use super::declare::settings;
use super::problem::Problems;

/// Events are kept for at least a day.
const MIN_RETENTION: Duration = Duration::from_secs(86_400);

settings! {
    /// The `[audit]` section.
    pub struct AuditConfig {
        /// How long events are kept in the audit log, at least a day; "never" deletes none.
        pub retention: Option<Duration> = "365d", or_never();
    }
}

impl AuditConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.retention.is_some_and(|retention| retention < MIN_RETENTION) {
            problems.add(
                "audit.retention",
                "is less than a day",
                "set it to at least \"1d\", or to \
                \"never\"",
            );
        }
    }
}
