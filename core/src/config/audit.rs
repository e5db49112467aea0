//! How long the audit log is kept.

use std::time::Duration;

use serde::Deserialize;

use super::problem::Problems;
use super::spec::{Kind, Spec};
use super::words;

/// What is worth writing down is worth keeping for a day.
const SHORTEST: Duration = Duration::from_secs(86_400);

/// The `[audit]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditConfig {
    /// How long an event is kept. None: for ever.
    #[serde(deserialize_with = "words::duration_or_never")]
    pub retention: Option<Duration>,
}

impl AuditConfig {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.retention.is_some_and(|retention| retention < SHORTEST) {
            problems.add("audit.retention", "is less than a day", "give at least \"1d\", or \"never\"");
        }
    }
}

pub(super) const SETTINGS: &[Spec] = &[Spec::new(
    "audit.retention",
    Kind::DurationOrNever,
    "How long events stay in the audit log, at least a day; \"never\" drops none.",
)];
