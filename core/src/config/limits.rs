//! How much anybody may ask for, and how often a password may be guessed.

use std::time::Duration;

use secrecy::SecretString;
use serde::Deserialize;

use super::spec::{Kind, Spec};
use super::{rules, words};

/// The `[limits]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Whether requests are limited. Guessing passwords always is.
    pub enabled: bool,
    /// Failed sign-ins for one account from one network in a window.
    pub failed_logins: u32,
    /// The window.
    #[serde(deserialize_with = "words::duration")]
    pub failed_login_window: Duration,
    /// Failed sign-ins for one account from everywhere in a window.
    pub failed_logins_everywhere: u32,
    /// Requests to `/api/auth/` from one network in a minute.
    pub auth_requests_per_minute: u32,
    /// Other requests of one caller in a second.
    pub requests_per_second: u32,
    /// Callers that are told apart in memory.
    pub tracked_callers: usize,
    /// A Redis that several instances share. None: each counts for itself.
    #[serde(deserialize_with = "words::optional")]
    pub redis_url: Option<SecretString>,
    /// How long Redis may take.
    #[serde(deserialize_with = "words::duration")]
    pub redis_timeout: Duration,
}

#[cfg(test)]
impl LimitsConfig {
    /// Limits that nobody reaches.
    pub(crate) fn off() -> Self {
        Self {
            enabled: false,
            failed_logins: u32::MAX,
            failed_login_window: Duration::from_secs(900),
            failed_logins_everywhere: u32::MAX,
            auth_requests_per_minute: u32::MAX,
            requests_per_second: u32::MAX,
            tracked_callers: 1,
            redis_url: None,
            redis_timeout: Duration::from_secs(1),
        }
    }
}

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "limits.enabled",
        Kind::Switch,
        "Whether the number of requests is limited. False where a proxy in front does it. Guessing passwords is always \
         limited.",
    ),
    Spec::new(
        "limits.failed_logins",
        Kind::count(1, 1000),
        "Failed sign-ins for one account from one address (of IPv6: one /64) within the window; then that address has to \
         wait, at first as long as the window, then longer.",
    ),
    Spec::new("limits.failed_login_window", Kind::seconds(10, 86_400), "The window of failed sign-ins."),
    Spec::new(
        "limits.failed_logins_everywhere",
        Kind::count(1, 100_000),
        "Failed sign-ins for one account from all addresses together within the window; then only addresses from which \
         its owner has signed in before may try.",
    ),
    Spec::new(
        "limits.auth_requests_per_minute",
        Kind::count(1, 10_000_000),
        "Requests below /api/auth/ that one address (of IPv6: one /64) may make in a minute.",
    ),
    Spec::new(
        "limits.requests_per_second",
        Kind::count(1, 10_000_000),
        "Other requests that one caller may make in a second: one account, or one address of those who are not signed in.",
    ),
    Spec::new(
        "limits.tracked_callers",
        Kind::count(100, 100_000_000),
        "Callers that are told apart in memory, at about 200 bytes each. Beyond that, new ones share what is left.",
    ),
    Spec::new(
        "limits.redis_url",
        Kind::Text { what: "a URL such as \"redis://127.0.0.1:6379/0\"", rule: rules::redis_url },
        "A Redis or Valkey in which all API instances count requests together. While it cannot be reached, each counts for \
         itself.",
    )
    .secret()
    .optional("each API instance counts for itself"),
    Spec::new(
        "limits.redis_timeout",
        Kind::Duration { min: Duration::from_millis(5), max: Duration::from_secs(10) },
        "How long Redis may take to count a request before the request is counted in memory instead.",
    ),
];
