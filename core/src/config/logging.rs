//! What is logged, how and where.

use std::path::PathBuf;

use serde::Deserialize;

use super::rules;
use super::spec::{Kind, Spec};

/// The `[logging]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoggingConfig {
    /// Least severity, alone or with levels for single modules (the syntax of `tracing_subscriber::EnvFilter`).
    pub level: String,
    /// Format of the lines on standard error.
    pub format: LogFormat,
    /// The worker's log of runs. The day goes between stem and extension: `sync.2026-01-31.log`.
    pub sync_log_file: PathBuf,
    /// Days of that log that are kept; 0 keeps all.
    pub sync_log_keep: usize,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "logging.level",
        Kind::Text {
            what: "off, error, warn, info, debug or trace, perhaps with levels of modules such as \
                   \"info,nightferry_core=debug\"",
            rule: rules::log_level,
        },
        "Least severity that is logged: off, error, warn, info, debug or trace, perhaps with levels of single modules: \
         \"info,nightferry_core=debug\".",
    ),
    Spec::new("logging.format", Kind::OneOf(&["text", "json"]), "Format of the log lines on standard error."),
    Spec::new(
        "logging.sync_log_file",
        Kind::Text { what: "a path of a file such as \"logs/sync.log\"", rule: rules::file_path },
        "The worker's log of runs, in JSON lines. A new file begins every day (UTC), with the day in its name: \
         logs/sync.2026-01-31.log.",
    ),
    Spec::new("logging.sync_log_keep", Kind::count(0, 3650), "Days of that log that are kept. 0 keeps all."),
];
