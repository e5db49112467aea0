//! Precedence of sources, locations of files, and environment names.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret;

use super::super::{Config, DatabaseTls, FreeLocalAfter, LoadOptions, StoreRole, VerifyMode};
use super::{env, file, least, load_env, load_file, only_problem, source_of};

#[test]
fn a_minimal_environment_is_sufficient() {
    let config = load_env(&[]).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.server.address().to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.max_file_size_bytes(), 10 * 1024 * 1024 * 1024);
    assert_eq!(config.server.workers, 0);
    assert_eq!(config.tiering.local_store, "minio");
    assert_eq!(config.tiering.cloud_store, "s3");
    assert_eq!(config.stores["s3"].endpoint, "https://s3.us-east-1.amazonaws.com");
    assert_eq!(config.stores["minio"].role, StoreRole::Local);
    assert_eq!(config.tiering.free_local_after, FreeLocalAfter::Never);
    assert_eq!(config.auth.refresh_token_ttl, Duration::from_secs(30 * 86_400));
}

#[test]
fn later_sources_take_precedence() {
    let (_folder, path) = file(
        "[server]\nport = 1111\nhost = \"10.0.0.1\"\nrequest_timeout = \"11s\"\n[tiering]\nbatch_size = 11\n",
    );
    let mut all = least();
    all.extend(env(&[
        ("PORT", "2222"),
        ("HOST", "10.0.0.2"),
        ("NIGHTFERRY__SERVER__PORT", "3333"),
        ("NIGHTFERRY__SERVER__HOST", "10.0.0.3"),
        ("SYNC_BATCH_SIZE", "22"),
    ]));
    let overrides = vec![("server.port".to_owned(), "4444".to_owned())];
    let config =
        Config::load(LoadOptions { file: Some(path.clone()), overrides, env: all, ..LoadOptions::default() })
            .unwrap();
    assert_eq!(config.server.port, 4444);
    assert_eq!(config.server.host.to_string(), "10.0.0.3");
    assert_eq!(config.tiering.batch_size, 22);
    assert_eq!(config.server.request_timeout, Duration::from_secs(11));
    assert_eq!(source_of(&config, "server.port"), "command line");
    assert_eq!(source_of(&config, "server.host"), "environment variable NIGHTFERRY__SERVER__HOST");
    assert_eq!(source_of(&config, "tiering.batch_size"), "environment variable SYNC_BATCH_SIZE");
    assert_eq!(source_of(&config, "server.request_timeout"), format!("{} line 4", path.display()));
    assert_eq!(source_of(&config, "server.workers"), "default");
}

#[test]
fn the_file_is_found_by_flag_then_variable_then_default_location() {
    let [(_a, flag), (_b, variable), (_c, usual)] =
        [1, 2, 3].map(|port| file(&format!("server.port = {port}")));
    let mut options = LoadOptions {
        file: Some(flag),
        env: least(),
        search: vec![PathBuf::from("/nonexistent/nightferry.toml"), usual],
        ..LoadOptions::default()
    };
    options.env.insert("NIGHTFERRY_CONFIG".to_owned(), variable.display().to_string());
    assert_eq!(Config::load(options.clone()).unwrap().server.port, 1);
    options.file = None;
    assert_eq!(Config::load(options.clone()).unwrap().server.port, 2);
    options.env.remove("NIGHTFERRY_CONFIG");
    assert_eq!(Config::load(options).unwrap().server.port, 3);
}

#[test]
fn a_missing_file_is_only_an_error_if_specified() {
    let named =
        LoadOptions { file: Some("/nonexistent.toml".into()), env: least(), ..LoadOptions::default() };
    assert_eq!(only_problem(Config::load(named)).key, "/nonexistent.toml");
    let searched =
        LoadOptions { search: vec!["/nonexistent.toml".into()], env: least(), ..LoadOptions::default() };
    assert!(Config::load(searched).is_ok());
}

#[test]
fn environment_aliases_are_supported() {
    let config = load_env(&[
        ("HOST", "localhost"),
        ("PORT", "9090"),
        ("MAX_FILE_SIZE_MB", "100"),
        ("MINIO_ENDPOINT", "minio:9000"),
        ("MINIO_BUCKET", "incoming"),
        ("AWS_REGION", "eu-central-1"),
        ("AWS_SESSION_TOKEN", "token"),
        ("SYNC_BATCH_SIZE", "25"),
        ("SYNC_SCHEDULE", "0 30 2 * * *"),
        ("DELETE_FROM_MINIO_AFTER_SYNC", "True"),
        ("SYNC_LOG_FILE", "/var/log/nightferry/sync.log"),
        ("LOG_LEVEL", "DEBUG"),
    ])
    .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.server.address().to_string(), "127.0.0.1:9090");
    assert_eq!(config.server.max_file_size_mib, 100);
    assert_eq!(config.stores["minio"].endpoint, "http://minio:9000");
    assert_eq!(config.stores["minio"].bucket, "incoming");
    assert_eq!(config.stores["s3"].endpoint, "https://s3.eu-central-1.amazonaws.com");
    assert_eq!(config.stores["s3"].access_key.expose_secret(), "AKIAEXAMPLE");
    assert_eq!(config.tiering.batch_size, 25);
    assert_eq!(config.tiering.schedule, "0 30 2 * * *");
    assert_eq!(config.tiering.free_local_after, FreeLocalAfter::After(Duration::ZERO));
    assert_eq!(config.logging.sync_log_file, PathBuf::from("/var/log/nightferry/sync.log"));
    assert_eq!(config.logging.level, "debug");
    let kept =
        load_env(&[("DELETE_FROM_MINIO_AFTER_SYNC", "false"), ("AWS_ENDPOINT_URL", "http://aws:9100/")])
            .unwrap();
    assert_eq!(kept.tiering.free_local_after, FreeLocalAfter::Never);
    assert_eq!(kept.stores["s3"].endpoint, "http://aws:9100");
}

#[test]
fn empty_variables_count_as_unset() {
    let config =
        load_env(&[("PORT", ""), ("AWS_SESSION_TOKEN", ""), ("NIGHTFERRY__SERVER__WORKERS", "")]).unwrap();
    assert_eq!(config.server.port, 8080);
    assert!(config.stores["s3"].session_token.is_none());
}

#[test]
fn numbers_and_booleans_may_be_strings_and_keywords_ignore_case() {
    let config = load_file(
        "[server]\nport = \"9090\"\n[auth]\nsignup = \"no\"\nalgorithm = \"hs256\"\n[tiering]\nverify = \"Read-Back\"\nfree_local_after = \"1h 30m\"",
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.server.port, 9090);
    assert!(!config.auth.signup);
    assert_eq!(config.tiering.verify, VerifyMode::ReadBack);
    assert_eq!(config.tiering.free_local_after, FreeLocalAfter::After(Duration::from_secs(5400)));
}

#[test]
fn sslmode_in_the_url_applies_if_tls_is_not_set() {
    let url = ("DATABASE_URL", "postgres://u:p@db/n?sslmode=require");
    let config = load_env(&[url]).unwrap();
    assert_eq!(config.database.tls, DatabaseTls::Require);
    assert_eq!(source_of(&config, "database.tls"), "sslmode in database.url");
    let problem = only_problem(load_env(&[url, ("NIGHTFERRY__DATABASE__TLS", "disable")]));
    assert_eq!(problem.message, "= \"disable\" contradicts sslmode=require in database.url");
}

#[test]
fn former_names_work_in_every_source_with_a_warning() {
    let (_folder, path) = file("[tiering]\nfree_grace = \"11s\"\ndrain_grace = \"12s\"\n");
    let mut env = least();
    env.insert("NIGHTFERRY__LOGGING__SYNC_LOG_KEEP".to_owned(), "13".to_owned());
    env.insert("NIGHTFERRY__TIERING__SHUTDOWN_GRACE".to_owned(), "14s".to_owned());
    let overrides = vec![("server.max_file_size_mb".to_owned(), "15".to_owned())];
    let config =
        Config::load(LoadOptions { file: Some(path.clone()), env, overrides, ..LoadOptions::default() })
            .unwrap();
    assert_eq!(config.tiering.evict_grace, Duration::from_secs(11));
    assert_eq!(config.tiering.shutdown_grace, Duration::from_secs(14), "a higher source wins by either name");
    assert_eq!(config.logging.sync_log_keep_days, 13);
    assert_eq!(config.server.max_file_size_mib, 15);
    assert_eq!(source_of(&config, "tiering.evict_grace"), format!("{} line 2", path.display()));
    let warnings = config.warnings();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.ends_with(
        "(environment variable NIGHTFERRY__LOGGING__SYNC_LOG_KEEP) has been renamed to logging.sync_log_keep_days; the former name still works"
    )), "{warnings:?}");
    assert!(load_env(&[]).unwrap().warnings().is_empty());
}

#[test]
fn a_setting_under_both_names_in_one_source_is_rejected() {
    let problem = only_problem(load_file("[tiering]\nfree_grace = \"1s\"\nevict_grace = \"2s\"\n"));
    assert_eq!(problem.key, "tiering.free_grace");
    assert_eq!(problem.fix, "remove tiering.free_grace");
}

#[test]
fn errors_of_a_setting_under_its_former_name_show_its_source() {
    let problem = only_problem(load_file("[tiering]\nfree_grace = \"soon\"\n"));
    assert_eq!(problem.key, "tiering.evict_grace");
    assert!(problem.source.ends_with("line 2"), "{problem:?}");
}
