//! When the stores are compared with the database, and what is done about the differences.

use std::time::Duration;

use serde::Deserialize;

use super::spec::{Kind, Spec};
use super::{rules, words};

/// The `[reconcile]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReconcileConfig {
    /// When a pass begins, in the time zone of `tiering.time_zone`: cron with six fields, seconds first. None: never.
    #[serde(deserialize_with = "words::optional")]
    pub schedule: Option<String>,
    /// Younger objects are never called orphans.
    #[serde(deserialize_with = "words::duration")]
    pub safety_age: Duration,
    /// Whether a scheduled pass does something about what it finds.
    pub apply: bool,
}

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "reconcile.schedule",
        Kind::Text { what: "a cron pattern with six fields such as \"0 30 2 * * SUN\"", rule: rules::schedule },
        "When a worker compares each store's listing with the database: cron with six fields, seconds first, in \
         tiering.time_zone.",
    )
    .optional("only `nightferry reconcile` does"),
    Spec::new(
        "reconcile.safety_age",
        Kind::seconds(3600, 365 * 86_400),
        "Objects without a row in the database are called orphans only when they are older than this.",
    ),
    Spec::new(
        "reconcile.apply",
        Kind::Switch,
        "Whether a scheduled pass deletes orphans, aborts stale uploads, and marks what is missing or of another size \
         as lost, so that it is repaired. Otherwise it only reports.",
    ),
];
