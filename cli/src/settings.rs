//! The sources of a command's configuration: the options, the environment, a file, or a `nightferry up` that is running
//! in the folder. Does not interpret settings.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use nightferry_core::config::{Config, LoadOptions};

use crate::args::GlobalArgs;
use crate::errors::Failure;

/// The default data folder of `nightferry up`.
pub(crate) const DEFAULT_DATA_DIR: &str = "nightferry-data";

/// The configuration that `nightferry up` writes into its data folder.
pub(crate) const UP_CONFIG: &str = "nightferry.toml";

/// Locked by a running `nightferry up`.
const UP_LOCK: &str = "up.lock";

const DATABASE_URL: &str = "database.url";

/// If one of these names a database or a file, the operator has a separate configuration.
const OWN_CONFIG_KEYS: [&str; 5] = [
    "NIGHTFERRY_CONFIG",
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "NIGHTFERRY__DATABASE__URL",
    "NIGHTFERRY__DATABASE__URL_FILE",
];

/// The conventional variable names that do not describe servers, and therefore also apply to the servers of `nightferry
/// up`.
const SHARED_ALIASES: [&str; 5] =
    ["MAX_FILE_SIZE_MB", "SYNC_SCHEDULE", "SYNC_BATCH_SIZE", "DELETE_FROM_MINIO_AFTER_SYNC", "LOG_LEVEL"];

#[derive(Debug)]
pub(crate) struct Sources {
    options: LoadOptions,
    /// Set if the configuration is that of a `nightferry up` found here.
    pub(crate) found: Option<PathBuf>,
    /// Whether a `nightferry up` was ever started here.
    has_up: bool,
}

impl Sources {
    /// The sources according to the options, the environment and the folder. `more` are overrides from the options of
    /// the command.
    pub(crate) fn of(global: &GlobalArgs, more: Vec<(String, String)>) -> Self {
        let options = LoadOptions::from_process(global.config.clone(), overrides(global, more));
        Self::choose(options, Path::new(DEFAULT_DATA_DIR))
    }

    fn choose(mut options: LoadOptions, data_dir: &Path) -> Self {
        let file = data_dir.join(UP_CONFIG);
        let has_up = file.exists();
        if is_own(&options) || !has_up || !up_is_running(data_dir) {
            return Self { options, found: None, has_up };
        }
        options.file = Some(file.clone());
        options.env = env_for_up(options.env);
        Self { options, found: Some(file), has_up }
    }

    pub(crate) fn load(self) -> Result<Config, Failure> {
        let is_own = is_own(&self.options);
        Config::load(self.options).map_err(|errors| {
            let failure = Failure::from(errors);
            if is_own {
                failure
            } else if self.has_up {
                failure.advise_command("to start the servers of ./nightferry-data again", "up")
            } else {
                failure.advise_command("to try Nightferry on this machine without any configuration", "up")
            }
        })
    }
}

/// The overrides of the command line, the most specific last.
fn overrides(global: &GlobalArgs, more: Vec<(String, String)>) -> Vec<(String, String)> {
    let url = global.database_url.iter().map(|url| (DATABASE_URL.to_owned(), url.clone()));
    global.set.iter().cloned().chain(url).chain(more).collect()
}

/// Whether a database or a file is specified.
fn is_own(options: &LoadOptions) -> bool {
    options.file.is_some()
        || options.overrides.iter().any(|(key, _)| key == DATABASE_URL)
        || OWN_CONFIG_KEYS
            .iter()
            .any(|name| options.env.get(*name).is_some_and(|value| !value.trim().is_empty()))
        || options.search.iter().any(|path| path.exists())
}

/// The environment without variables that describe other servers than those of `nightferry up`: in a shell that is
/// configured for AWS, AWS credentials must not be sent to the cloud stand-in.
pub(crate) fn env_for_up(env: BTreeMap<String, String>) -> BTreeMap<String, String> {
    env.into_iter()
        .filter(|(name, _)| name.starts_with("NIGHTFERRY__") || SHARED_ALIASES.contains(&name.as_str()))
        .collect()
}

fn up_is_running(data_dir: &Path) -> bool {
    // A shared lock, so that two commands that check at once do not mistake each other for `nightferry up`.
    let locked = File::open(data_dir.join(UP_LOCK)).map(|lock| lock.try_lock_shared());
    matches!(locked, Ok(Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_dir_of_up() -> (tempfile::TempDir, File) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(UP_CONFIG), "").unwrap();
        let lock = File::create(folder.path().join(UP_LOCK)).unwrap();
        (folder, lock)
    }

    #[test]
    fn a_running_up_is_found_when_nothing_else_is_configured() {
        let (folder, lock) = data_dir_of_up();
        lock.lock().unwrap();
        let sources = Sources::choose(LoadOptions::default(), folder.path());
        assert_eq!(sources.found, Some(folder.path().join(UP_CONFIG)));
    }

    #[test]
    fn an_up_that_has_stopped_is_not_used() {
        let (folder, _lock) = data_dir_of_up();
        let sources = Sources::choose(LoadOptions::default(), folder.path());
        assert_eq!((sources.found, sources.has_up), (None, true));
    }

    #[test]
    fn an_explicit_configuration_takes_precedence() {
        let (folder, lock) = data_dir_of_up();
        lock.lock().unwrap();
        let own = [
            LoadOptions { file: Some(PathBuf::from("my.toml")), ..LoadOptions::default() },
            LoadOptions {
                overrides: vec![(DATABASE_URL.to_owned(), "postgres://x".to_owned())],
                ..LoadOptions::default()
            },
            LoadOptions {
                env: [("DATABASE_URL".to_owned(), "postgres://x".to_owned())].into(),
                ..LoadOptions::default()
            },
        ];
        for options in own {
            assert_eq!(Sources::choose(options, folder.path()).found, None);
        }
    }

    #[test]
    fn keys_of_other_servers_do_not_reach_those_of_up() {
        let env = ["AWS_ACCESS_KEY_ID", "MINIO_ENDPOINT", "HOST", "SYNC_BATCH_SIZE", "NIGHTFERRY__A__B"];
        let env = env_for_up(env.map(|name| (name.to_owned(), "x".to_owned())).into());
        assert_eq!(env.into_keys().collect::<Vec<_>>(), ["NIGHTFERRY__A__B", "SYNC_BATCH_SIZE"]);
    }
}
