//! The configuration of `nightferry up`: the servers it started, and all other settings of the operator. Written to the
//! data folder, so that other commands use the same configuration.

use std::path::PathBuf;

use nightferry_core::config::{Config, LoadOptions};
use toml::{Table, Value};

use super::UpArgs;
use crate::args::GlobalArgs;
use crate::commands::App;
use crate::errors::{Exit, Failure};
use crate::settings::{UP_CONFIG, env_for_up};
use nightferry_devservers::{DataDir, Parts, S3Server};

const LOCAL_STORE: &str = "minio";
const CLOUD_STORE: &str = "s3";

/// Settings that are determined by the embedded servers and cannot be changed.
fn is_fixed(key: &str) -> bool {
    match key.split('.').collect::<Vec<_>>().as_slice() {
        ["database", "url"] | ["auth", "secret_key"] | ["server", "port"] => true,
        ["stores", LOCAL_STORE | CLOUD_STORE, field] => {
            ["enabled", "role", "endpoint", "bucket", "access_key", "secret_key"].contains(field)
        }
        _ => false,
    }
}

/// Options that are not supported by `up`.
pub(super) fn reject_unsupported(global: &GlobalArgs) -> Result<(), Failure> {
    if global.database_url.is_some() {
        return Err(Failure::usage("`up` starts its own database, so --database-url has no effect")
            .advise("to use your own servers, run `nightferry serve` and `nightferry worker`"));
    }
    match global.set.iter().find(|(key, _)| is_fixed(key)) {
        Some((key, _)) => Err(Failure::usage(format!("`up` sets {key} itself"))
            .because("it is determined by the servers that it starts and by its own options")
            .advise_command("see its options", "up --help")),
        None => Ok(()),
    }
}

/// The effective configuration and the file it was written to.
pub(super) fn settle(
    app: &App,
    args: &UpArgs,
    data: &DataDir,
    parts: &Parts,
) -> Result<(Config, PathBuf), Failure> {
    let base = LoadOptions::from_process(app.global.config.clone(), Vec::new());
    let env = env_for_up(base.env);
    let mut overrides = Vec::new();
    let says_level = ["LOG_LEVEL", "NIGHTFERRY__LOGGING__LEVEL"].iter().any(|name| env.contains_key(*name));
    if !says_level && app.global.config.is_none() {
        // On a terminal, one line per request would hide everything else.
        let level = if app.output.is_verbose() { "info" } else { "warn" };
        overrides.push(("logging.level".to_owned(), level.to_owned()));
    }
    overrides.push(("logging.sync_log_file".to_owned(), data.log("sync").display().to_string()));
    overrides.extend(args.schedule.iter().map(|cron| ("tiering.schedule".to_owned(), cron.clone())));
    overrides.extend(app.global.set.iter().cloned());
    overrides.extend(of_servers(args, data, parts)?);

    let options = LoadOptions { overrides: overrides.clone(), env, search: Vec::new(), ..base };
    let config = Config::load(options)?;
    // Other commands also get the settings of an operator's file through this one.
    let file = write(app, data, &overrides)?;
    Ok((config, file))
}

fn of_servers(args: &UpArgs, data: &DataDir, parts: &Parts) -> Result<Vec<(String, String)>, Failure> {
    let mut settled = vec![
        ("server.port".to_owned(), args.port.to_string()),
        ("database.url".to_owned(), parts.database_url.clone()),
        ("auth.secret_key".to_owned(), data.secret("token.secret")?),
        // Plain HTTP, on this machine only.
        ("auth.cookie_secure".to_owned(), "false".to_owned()),
        ("tiering.local_store".to_owned(), LOCAL_STORE.to_owned()),
        ("tiering.cloud_store".to_owned(), CLOUD_STORE.to_owned()),
    ];
    settled.extend(of_store(LOCAL_STORE, "local", &parts.local));
    settled.extend(of_store(CLOUD_STORE, "cloud", &parts.cloud));
    Ok(settled)
}

fn of_store(name: &str, role: &str, server: &S3Server) -> impl Iterator<Item = (String, String)> {
    [
        ("enabled", "true"),
        ("role", role),
        ("endpoint", &server.endpoint),
        ("bucket", &server.bucket),
        ("access_key", &server.access_key),
        ("secret_key", &server.secret_key),
    ]
    .map(|(field, value)| (format!("stores.{name}.{field}"), value.to_owned()))
    .into_iter()
}

/// Writes the settings as a configuration file that only its owner can read.
fn write(app: &App, data: &DataDir, overrides: &[(String, String)]) -> Result<PathBuf, Failure> {
    let failed = |why: String| {
        Failure::new(Exit::Failed, "output", "Cannot write the configuration of these servers").because(why)
    };
    let mut root = match &app.global.config {
        Some(file) => {
            let text = std::fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
            text.parse::<Table>().map_err(|error| failed(error.message().to_owned()))?
        }
        None => Table::new(),
    };
    for (key, value) in overrides {
        let wrong = || failed(format!("{key} is a section in one place and a setting in another"));
        insert(&mut root, key, value).ok_or_else(wrong)?;
    }
    let body = toml::to_string(&root).map_err(|error| failed(error.to_string()))?;
    let text = format!(
        "# Written by `nightferry up` at each start; changes are lost. Other commands read it while `up` runs.\n\n{body}"
    );
    Ok(data.replace_file(UP_CONFIG, text.as_bytes())?)
}

/// Sets a dotted key. `None` if a parent key is not a table.
fn insert(root: &mut Table, key: &str, value: &str) -> Option<()> {
    let mut section = root;
    let mut names = key.split('.').peekable();
    while let Some(name) = names.next() {
        if names.peek().is_none() {
            section.insert(name.to_owned(), typed(key, value));
            return Some(());
        }
        let inner = section.entry(name).or_insert_with(|| Value::Table(Table::new()));
        section = inner.as_table_mut()?;
    }
    None
}

/// The few values that are not written as strings. The type never depends on the value: a password of digits is a
/// string.
fn typed(key: &str, value: &str) -> Value {
    let text = || Value::String(value.to_owned());
    match key {
        "server.port" => value.parse().map_or_else(|_| text(), Value::Integer),
        _ if key.ends_with(".enabled") => value.parse().map_or_else(|_| text(), Value::Boolean),
        _ => text(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_keys_become_sections() {
        let mut root: Table = "[tiering]\nbatch_size = 5\n".parse().unwrap();
        let settings = [
            ("tiering.schedule", "0 0 1 * * *"),
            ("stores.s3.bucket", "cloud-\"files\""),
            ("stores.s3.secret_key", "0123"),
            ("server.port", "8080"),
        ];
        for (key, value) in settings {
            insert(&mut root, key, value).unwrap();
        }
        insta::assert_snapshot!(toml::to_string(&root).unwrap());
        assert!(insert(&mut root, "tiering.schedule.x", "1").is_none());
    }

    #[test]
    fn settings_determined_by_the_servers_cannot_be_set() {
        let refused = |key: &str| {
            let global = GlobalArgs { set: vec![(key.to_owned(), "x".to_owned())], ..GlobalArgs::default() };
            reject_unsupported(&global).is_err()
        };
        for key in ["database.url", "server.port", "stores.minio.endpoint", "stores.s3.secret_key"] {
            assert!(refused(key), "{key}");
        }
        for key in ["server.host", "tiering.batch_size", "stores.s3.storage_class", "stores.s3x.bucket"] {
            assert!(!refused(key), "{key}");
        }
    }
}
