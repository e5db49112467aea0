//! Snapshots of the catalogue in the cloud store: whether, how many are kept, and with which key they are signed.

use secrecy::SecretString;
use serde::Deserialize;

use super::spec::{Kind, Spec};
use super::{rules, words};

/// The `[catalog]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CatalogConfig {
    /// Whether a snapshot is written after each run that changed something.
    pub after_runs: bool,
    /// The newest snapshots, which are kept.
    pub keep: usize,
    /// Of so many days the newest snapshot is kept too.
    pub keep_days: usize,
    /// From what the keys of snapshots are derived. None: from `auth.secret_key`.
    #[serde(deserialize_with = "words::optional")]
    pub secret_key: Option<SecretString>,
}

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "catalog.after_runs",
        Kind::Switch,
        "Whether a worker writes a snapshot of the catalogue to the cloud store after each run that changed something.",
    ),
    Spec::new("catalog.keep", Kind::count(1, 1000), "How many of the newest snapshots are kept."),
    Spec::new(
        "catalog.keep_days",
        Kind::count(0, 1000),
        "Besides them, of so many days that have snapshots the newest one is kept.",
    ),
    Spec::new(
        "catalog.secret_key",
        Kind::Text { what: "at least 32 random bytes; make one with `openssl rand -hex 32`", rule: rules::signing_key },
        "What snapshots are signed and their password hashes sealed with. Keep it where the database and the stores are \
         not: without it no snapshot can be used.",
    )
    .secret()
    .optional("keys are derived from auth.secret_key"),
];
