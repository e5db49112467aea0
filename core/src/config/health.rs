//! How a process finds out which stores are well, and how soon it believes it.

use std::time::Duration;

use serde::Deserialize;

use super::spec::{Kind, Spec};
use super::words;

/// The `[health]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthConfig {
    /// Between two looks at a store.
    #[serde(deserialize_with = "words::duration")]
    pub interval: Duration,
    /// Failures in a row after which a store counts as down.
    pub failures: u32,
    /// Answers in a row after which it counts as up again.
    pub successes: u32,
}

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "health.interval",
        Kind::Duration { min: Duration::from_millis(100), max: Duration::from_secs(3600) },
        "How often each process asks every store whether it is there; five times as often while it is in doubt. Uploads, \
         downloads and copies that fail count as looks too.",
    ),
    Spec::new(
        "health.failures",
        Kind::count(1, 100),
        "After so many failures in a row a store counts as down: uploads go to another local store, and downloads ask it last.",
    ),
    Spec::new(
        "health.successes",
        Kind::count(1, 100),
        "After so many answers in a row a store that was down counts as up again.",
    ),
];
