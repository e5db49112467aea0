//! Secrets are never interpreted, may come from files, and are never shown.

use std::path::PathBuf;

use secrecy::ExposeSecret;

use super::super::{Config, LoadOptions};
use super::{KEY, file, least, load_env, only_problem};

#[test]
fn secrets_that_look_like_numbers_stay_text() {
    let config = load_env(&[
        ("MINIO_SECRET_KEY", "0123"),
        ("NIGHTFERRY__STORES__S3__SECRET_KEY", "1e3"),
        ("AWS_SESSION_TOKEN", "true"),
    ])
    .unwrap();
    assert_eq!(config.stores["minio"].secret_key.expose_secret(), "0123");
    assert_eq!(config.stores["s3"].secret_key.expose_secret(), "1e3");
    assert_eq!(config.stores["s3"].session_token.as_ref().unwrap().expose_secret(), "true");
}

#[test]
fn secrets_never_print() {
    let config = load_env(&[("AWS_SESSION_TOKEN", "session-secret")]).unwrap();
    let shown = format!("{config:?} {:#?} {}", config, serde_json::to_string(config.settings()).unwrap());
    for secret in
        ["hunter2", KEY, "minio-access", "minio-secret", "AKIAEXAMPLE", "aws-secret", "session-secret"]
    {
        assert!(!shown.contains(secret), "{secret} shows");
    }
    let setting = config.settings().iter().find(|setting| setting.key == "database.url").unwrap();
    assert_eq!(setting.value, "********");
}

#[test]
fn secrets_are_read_from_files() {
    let (_folder, path) = file("secret-of-a-file\n");
    let path = path.display().to_string();
    let config = load_env(&[("NIGHTFERRY__STORES__S3__SECRET_KEY_FILE", &path)]).unwrap();
    assert_eq!(config.stores["s3"].secret_key.expose_secret(), "secret-of-a-file");
    let mut only_file = least();
    only_file.remove("MINIO_SECRET_KEY");
    only_file.insert("MINIO_SECRET_KEY_FILE".to_owned(), path.clone());
    let config = Config::load(LoadOptions { env: only_file, ..LoadOptions::default() }).unwrap();
    assert_eq!(config.stores["minio"].secret_key.expose_secret(), "secret-of-a-file");
    let problem = only_problem(load_env(&[("MINIO_SECRET_KEY_FILE", &path)]));
    assert_eq!(problem.message, "is set twice, by MINIO_SECRET_KEY and MINIO_SECRET_KEY_FILE");
    // Only secrets are read from files: here the path is the value.
    let config = load_env(&[("NIGHTFERRY__LOGGING__SYNC_LOG_FILE", &path)]).unwrap();
    assert_eq!(config.logging.sync_log_file, PathBuf::from(path));
}

#[test]
fn invalid_values_of_secrets_are_never_shown() {
    let odd = [
        "",
        " ",
        "0",
        "-1",
        "1e9",
        "18446744073709551616",
        "never",
        "true",
        "\u{1}\u{2603}-poison",
        "$(poison)",
        "[[",
        "1h poison",
    ];
    for spec in super::super::table::all() {
        for text in odd {
            let overrides = vec![(spec.key.replace('*', "s3"), text.to_owned())];
            let result = Config::load(LoadOptions { overrides, env: least(), ..LoadOptions::default() });
            let shown = match result {
                Ok(config) => format!("{config:?}"),
                Err(errors) => errors.to_string(),
            };
            assert!(!spec.secret || !shown.contains("poison"), "{}: {shown}", spec.key);
        }
    }
}

#[test]
fn options_print_without_values() {
    let overrides = vec![("auth.secret_key".to_owned(), KEY.to_owned())];
    let shown = format!("{:?}", LoadOptions { overrides, env: least(), ..LoadOptions::default() });
    assert!(shown.contains("DATABASE_URL") && !shown.contains("hunter2") && !shown.contains(KEY), "{shown}");
}
