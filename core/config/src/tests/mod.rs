//! Tests of the configuration as operators see it. This file contains helpers for loading a configuration independently
//! of the process.

mod keys;
mod policy;
mod problems;
mod reference_docs;
mod secrets;
mod sources;
mod stores;

use std::collections::BTreeMap;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{Config, ConfigErrors, LoadOptions, Problem};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// The minimal valid environment.
fn least() -> BTreeMap<String, String> {
    env(&[
        ("DATABASE_URL", "postgres://nightferry:hunter2@db/nightferry"),
        ("SECRET_KEY", KEY),
        ("MINIO_ACCESS_KEY", "minio-access"),
        ("MINIO_SECRET_KEY", "minio-secret"),
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "aws-secret"),
        ("S3_BUCKET", "cloud-files"),
    ])
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load_env(more: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let mut all = least();
    all.extend(env(more));
    Config::load(LoadOptions { env: all, ..LoadOptions::default() })
}

fn file(text: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nightferry.toml");
    std::fs::write(&path, text).unwrap();
    (folder, path)
}

fn load_file(text: &str) -> Result<Config, ConfigErrors> {
    let (_folder, path) = file(text);
    Config::load(LoadOptions { file: Some(path), env: least(), ..LoadOptions::default() })
}

fn source_of(config: &Config, key: &str) -> String {
    config.settings().iter().find(|setting| setting.key == key).unwrap().source.clone()
}

fn only_problem(result: Result<Config, ConfigErrors>) -> Problem {
    let errors = result.expect_err("the configuration is wrong");
    assert_eq!(errors.problems().len(), 1, "{errors}");
    errors.problems()[0].clone()
}
