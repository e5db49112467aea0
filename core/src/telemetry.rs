//! Initializes logging once per process: standard error, and the sync log of the worker. Determines where events go and
//! in which form, never what is logged.

use std::io;
use std::path::{Path, PathBuf};

use tracing::Metadata;
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_appender::rolling::{RollingFileAppender, Rotation};
use tracing_subscriber::filter::{LevelFilter, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::config::{LogFormat, LoggingConfig};

/// The target of events for the sync log, including targets below it.
pub const SYNC_TARGET: &str = "nightferry::sync";

/// The target of events about individual files: written to the sync log, but to standard error only at detailed levels.
/// A run may have millions.
pub const SYNC_FILE_TARGET: &str = "nightferry::sync::file";

/// The role of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The HTTP server.
    Api,
    /// The worker; writes the sync log.
    Worker,
    /// Both in one process; writes the sync log.
    ApiAndWorker,
    /// An operator command: only warnings and errors, in addition to its output.
    Cli,
    /// An operator command, logging at the configured level.
    CliVerbose,
}

/// Keeps the writers alive. Buffered events are written when it is dropped, so it belongs in `main`.
#[must_use = "dropping the guard ends the sync log"]
#[derive(Debug)]
pub struct TelemetryGuard {
    _sync_log: Option<WorkerGuard>,
}

/// Why logging could not be initialized.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `logging.level` is invalid.
    #[error("logging.level is not a log level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    /// The folder of the sync log cannot be created.
    #[error("cannot create the folder {} for the sync log (logging.sync_log_file): {source}", folder.display())]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The sync log cannot be written.
    #[error(
        "cannot write the sync log in {} (logging.sync_log_file): {source}; choose a folder that this user \
            can write to",
        folder.display()
    )]
    SyncLog {
        /// The folder.
        folder: PathBuf,
        /// The error of the system.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Logging is already initialized in this process.
    #[error("logging is already initialized in this process")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// Initializes logging for the whole process. Call it once, in the binary; a second call is an error and changes
/// nothing.
pub fn init(logging: &LoggingConfig, role: Role) -> Result<TelemetryGuard, TelemetryError> {
    let level = if role == Role::Cli { "warn" } else { &logging.level };
    let filter = stderr_filter(level)?;
    let (sync_layer, guard) = match role {
        Role::Worker | Role::ApiAndWorker => {
            let (writer, guard) = sync_log_writer(&logging.sync_log_file, logging.sync_log_keep_days)?;
            (Some(sync_log_layer(writer)), Some(guard))
        }
        Role::Api | Role::Cli | Role::CliVerbose => (None, None),
    };
    tracing_subscriber::registry()
        .with(stderr_layer(logging.format).with_filter(filter))
        .with(sync_layer)
        .try_init()?;
    Ok(TelemetryGuard { _sync_log: guard })
}

/// The filter for standard error at `level`, the text of the setting.
fn stderr_filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(level)?;
    let shows_details = filter.max_level_hint().is_none_or(|most| most > LevelFilter::INFO);
    if shows_details || level.contains(SYNC_FILE_TARGET) {
        return Ok(filter);
    }
    Ok(filter.add_directive(format!("{SYNC_FILE_TARGET}=warn").parse()?))
}

fn stderr_layer<S>(format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    match format {
        LogFormat::Text => layer.with_ansi(io::IsTerminal::is_terminal(&io::stderr())).boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

fn sync_log_layer<S>(writer: NonBlocking) -> impl Layer<S> + Send + Sync
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
{
    tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(writer)
        .with_filter(filter_fn(belongs_to_sync_log))
}

/// Independent of `logging.level`: the sync log is always complete.
fn belongs_to_sync_log(metadata: &Metadata<'_>) -> bool {
    let of_target = metadata
        .target()
        .strip_prefix(SYNC_TARGET)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    of_target && *metadata.level() <= tracing::Level::INFO
}

fn sync_log_writer(file: &Path, keep: usize) -> Result<(NonBlocking, WorkerGuard), TelemetryError> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder)
        .map_err(|source| TelemetryError::Folder { folder: folder.to_owned(), source })?;
    let part = |part: Option<&std::ffi::OsStr>| {
        part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
    };
    let appender = RollingFileAppender::builder()
        .rotation(Rotation::DAILY)
        .filename_prefix(part(file.file_stem()))
        .filename_suffix(part(file.extension()))
        // The appender deletes an old file before it opens one, even if that file already exists, so that with `keep` a
        // restart would leave one day too few.
        .max_log_files(if keep == 0 { 0 } else { keep.saturating_add(1) })
        .build(folder)
        .map_err(|source| TelemetryError::SyncLog { folder: folder.to_owned(), source: source.into() })?;
    Ok(NonBlockingBuilder::default().lossy(false).finish(appender))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn sync_log_in(folder: &Path) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(name.starts_with("sync.2") && path.extension().is_some_and(|end| end == "log"), "{name}");
            text.push_str(&std::fs::read_to_string(path).unwrap());
        }
        text
    }

    #[test]
    fn sync_log_holds_the_events_of_runs_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let logs = folder.path().join("new/logs");
        let (writer, guard) = sync_log_writer(&logs.join("sync.log"), 3).unwrap();
        let subscriber = tracing_subscriber::registry().with(sync_log_layer(writer));
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "nightferry::sync", files = 3, "run began");
            tracing::warn!(target: "nightferry::sync::copy", "copy failed");
            tracing::debug!(target: "nightferry::sync", "too fine");
            tracing::info!(target: "nightferry::synchrony", "another target");
            tracing::error!("something else");
        });
        drop(guard);
        let text = sync_log_in(&logs);
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert_eq!(lines[0]["message"], "run began");
        assert_eq!(lines[0]["files"], 3);
        assert_eq!(lines[1]["target"], "nightferry::sync::copy");
    }

    #[test]
    fn single_files_are_shown_only_with_details() {
        for (level, shown) in [
            ("info", false),
            ("warn", false),
            ("info,nightferry_api=warn", false),
            ("debug", true),
            ("warn,nightferry::sync::file=info", true),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("stderr");
            let file = std::fs::File::create(&path).unwrap();
            let layer = tracing_subscriber::fmt::layer().with_writer(std::sync::Mutex::new(file));
            let subscriber =
                tracing_subscriber::registry().with(layer.with_filter(stderr_filter(level).unwrap()));
            tracing::subscriber::with_default(subscriber, || {
                tracing::info!(target: SYNC_FILE_TARGET, "copied and verified");
                tracing::warn!(target: SYNC_TARGET, "a copy failed");
            });
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text.contains("copied and verified"), shown, "{level}: {text}");
            assert!(text.contains("a copy failed"), "{level}: {text}");
        }
    }

    #[test]
    fn sync_log_loses_nothing_under_a_burst() {
        let folder = tempfile::tempdir().unwrap();
        let (writer, guard) = sync_log_writer(&folder.path().join("sync.log"), 0).unwrap();
        let subscriber = tracing_subscriber::registry().with(sync_log_layer(writer));
        // More than fits into the queue of the writer.
        tracing::subscriber::with_default(subscriber, || {
            for number in 0..200_000 {
                tracing::info!(target: SYNC_TARGET, number);
            }
        });
        drop(guard);
        assert_eq!(sync_log_in(folder.path()).lines().count(), 200_000);
    }

    #[test]
    fn the_error_names_a_folder_that_cannot_be_created() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("a-file");
        std::fs::write(&blocked, "").unwrap();
        let error = sync_log_writer(&blocked.join("logs/sync.log"), 3).unwrap_err().to_string();
        assert!(error.contains("a-file/logs") && error.contains("logging.sync_log_file"), "{error}");
    }

    #[test]
    fn setting_up_twice_is_an_error_and_not_a_panic() {
        let folder = tempfile::tempdir().unwrap();
        let logging = LoggingConfig {
            level: "error".to_owned(),
            format: LogFormat::Json,
            sync_log_file: folder.path().join("sync.log"),
            sync_log_keep_days: 1,
        };
        let _guard = init(&logging, Role::ApiAndWorker).unwrap();
        assert!(matches!(init(&logging, Role::Worker), Err(TelemetryError::AlreadySet(_))));
    }
}
