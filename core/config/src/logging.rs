//! Log level, format and files.

use std::path::PathBuf;

use super::declare::settings;
use super::validators;

settings! {
    /// The `[logging]` section.
    pub struct LoggingConfig {
        /// Minimum severity of logged events: off, error, warn, info, debug or trace, optionally with levels for single
        /// modules: `info,nightferry_core=debug`.
        pub level: String = "info",
            text(
                "off, error, warn, info, debug or trace, optionally with levels of modules such as \
                 \"info,nightferry_core=debug\"",
                validators::log_level
            );
        /// Format of the log lines on standard error.
        pub format: LogFormat = "text";
        /// The worker's log of runs, as JSON lines. A new file is started every day (UTC), with the date in its name:
        /// `logs/sync.2026-01-31.log`.
        pub sync_log_file: PathBuf = "logs/sync.log",
            text("a path of a file such as \"logs/sync.log\"", validators::file_path);
        /// Number of days for which files of that log are kept. 0 keeps all.
        pub sync_log_keep_days: usize = 30, range(0, 3650), formerly("sync_log_keep");
    }
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::VariantNames)]
#[strum(serialize_all = "lowercase")]
pub enum LogFormat {
    /// Human-readable text.
    Text,
    /// One JSON object per line.
    Json,
}
