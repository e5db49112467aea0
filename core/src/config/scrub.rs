//! When verified copies are read again, how fast, and for how long.

use std::time::Duration;

use serde::Deserialize;

use super::spec::{Kind, Spec};
use super::{MEBIBYTE, rules, words};

/// The `[scrub]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScrubConfig {
    /// When a pass begins, in the time zone of `tiering.time_zone`: cron with six fields, seconds first. None: never.
    #[serde(deserialize_with = "words::optional")]
    pub schedule: Option<String>,
    /// MiB read a second.
    pub rate_mb: u64,
    /// How long a scheduled pass may take.
    #[serde(deserialize_with = "words::duration")]
    pub time_limit: Duration,
    /// A scheduled pass does not read again what was proved within this time.
    #[serde(deserialize_with = "words::duration")]
    pub min_age: Duration,
}

impl ScrubConfig {
    /// Bytes read a second.
    pub fn rate_bytes(&self) -> u64 {
        self.rate_mb.saturating_mul(MEBIBYTE)
    }
}

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "scrub.schedule",
        Kind::Text { what: "a cron pattern with six fields such as \"0 0 3 * * SUN\"", rule: rules::schedule },
        "When a worker begins to read verified copies again and to hash them: cron with six fields, seconds first, in \
         tiering.time_zone. Reading the cloud store costs its egress.",
    )
    .optional("only `nightferry scrub` does"),
    Spec::new(
        "scrub.rate_mb",
        Kind::mebibytes(1, 100_000, 1),
        "How much is read in a second, over all stores together.",
    ),
    Spec::new(
        "scrub.time_limit",
        Kind::seconds(60, 30 * 86_400),
        "How long a scheduled pass may take. The next one goes on with what was not read for the longest time.",
    ),
    Spec::new(
        "scrub.min_age",
        Kind::seconds(0, 3650 * 86_400),
        "A scheduled pass leaves out what was proved within this time, by being copied or read.",
    ),
];
