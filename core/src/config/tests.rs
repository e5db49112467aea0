//! What operators rely on: precedence, all errors at once, sources, suggestions, and secrets that stay secret.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::{Config, ConfigErrors, DatabaseTls, FreeLocalAfter, LoadOptions, StoreRole, VerifyMode};

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// The least environment that is a valid configuration.
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

fn only_problem(result: Result<Config, ConfigErrors>) -> super::Problem {
    let errors = result.expect_err("the configuration is wrong");
    assert_eq!(errors.problems().len(), 1, "{errors}");
    errors.problems()[0].clone()
}

#[test]
fn least_environment_is_enough() {
    let config = load_env(&[]).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.server.address().to_string(), "127.0.0.1:8080");
    assert_eq!(config.server.max_file_size_bytes(), 10 * 1024 * 1024 * 1024);
    assert_eq!(config.server.workers, None);
    assert_eq!(config.tiering.local_store, "minio");
    assert_eq!(config.tiering.cloud_store, "s3");
    assert_eq!(config.stores["s3"].endpoint, "https://s3.us-east-1.amazonaws.com");
    assert_eq!(config.stores["minio"].role, StoreRole::Local);
    assert_eq!(config.tiering.free_local_after, FreeLocalAfter::Never);
    assert_eq!(config.auth.refresh_token_ttl, Duration::from_secs(30 * 86_400));
}

#[test]
fn later_sources_win() {
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
fn file_is_found_by_flag_then_variable_then_usual_place() {
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
fn nothing_given_names_everything_required() {
    let errors = Config::load(LoadOptions::default()).unwrap_err();
    insta::assert_snapshot!(errors);
}

#[test]
fn all_errors_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nightferry.toml");
    let text = r#"
[server]
prot = 80
max_file_size_mb = "huge"
request_timeout = 30

[database]
url = "mysql://root:hunter2@db/nightferry"
tls = "maybe"

[auth]
secret_key = "hunter2hunter2"

[stores.minio]
endpoint = "http://127.0.0.1:9000/files"
bucket = "Local_Files"

[stores.s3]
storage_class = "GLACIER"

[tiering]
schedule = "0 0 * * *"
time_zone = "Mars/Olympus"
part_size_mb = 12
lease = "10s"
heartbeat = "5s"
batch_size = [1]

[logging]
level = "loud"

[logging_]
"#;
    std::fs::write(&path, text).unwrap();
    let env = env(&[
        ("PORT", "70000"),
        ("DELETE_FROM_MINIO_AFTER_SYNC", "maybe"),
        ("NIGHTFERRY__AUTH__SIGNUPS", "true"),
        ("AWS_ACCESS_KEY_ID", "AKIA EXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY_FILE", "/nonexistent/secret"),
    ]);
    let overrides = vec![("server.host".to_owned(), "nowhere".to_owned())];
    let options = LoadOptions { file: Some(path.clone()), overrides, env, ..LoadOptions::default() };
    let text = Config::load(options).unwrap_err().to_string();
    assert!(!text.contains("hunter2") && !text.contains("AKIA"), "a secret shows:\n{text}");
    insta::assert_snapshot!(text.replace(&path.display().to_string(), "nightferry.toml"));
}

#[test]
fn broken_toml_is_told_with_its_line_and_without_its_text() {
    let problem = only_problem(load_file("[auth]\nsecret_key = \"hunter2\n"));
    assert!(problem.source.ends_with("line 2"), "{problem:?}");
    assert!(!format!("{problem:?}").contains("hunter2"), "{problem:?}");
}

#[test]
fn unknown_keys_are_errors_with_a_suggestion() {
    for (text, fix) in [
        ("[server]\nprot = 1", "did you mean server.port?"),
        ("[sever]\nport = 1", "did you mean server.port?"),
        ("port = 1", "did you mean server.port?"),
        ("[server]\nschedule = \"0 0 0 * * *\"", "did you mean tiering.schedule?"),
        ("[stores.minio]\nbuket = \"x\"", "did you mean stores.minio.bucket?"),
        ("[server]\nfrobnicate = 1", "remove it; config/example.toml lists every setting"),
        ("[nonsense]", "remove it; config/example.toml lists every setting"),
        ("server = 1", "give the settings in it; config/example.toml lists them"),
    ] {
        assert_eq!(only_problem(load_file(text)).fix, fix, "{text}");
    }
    let problem = only_problem(load_env(&[("NIGHTFERRY__TIERING__SHEDULE", "x")]));
    assert_eq!(problem.fix, "did you mean tiering.schedule?");
    assert_eq!(problem.source, "environment variable NIGHTFERRY__TIERING__SHEDULE");
}

#[test]
fn missing_file_is_an_error_only_when_named() {
    let named =
        LoadOptions { file: Some("/nonexistent.toml".into()), env: least(), ..LoadOptions::default() };
    assert_eq!(only_problem(Config::load(named)).key, "/nonexistent.toml");
    let searched =
        LoadOptions { search: vec!["/nonexistent.toml".into()], env: least(), ..LoadOptions::default() };
    assert!(Config::load(searched).is_ok());
}

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
fn usual_names_are_understood() {
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
    assert_eq!(config.server.max_file_size_mb, 100);
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
    // Only secrets are read from files: here the file's path is the value.
    let config = load_env(&[("NIGHTFERRY__LOGGING__SYNC_LOG_FILE", &path)]).unwrap();
    assert_eq!(config.logging.sync_log_file, PathBuf::from(path));
}

#[test]
fn stores_can_be_added_and_the_default_ones_disabled() {
    let config = load_file(
        r#"
[stores.minio]
enabled = false
bucket = "Not Even Valid"
[stores.garage]
role = "local"
endpoint = "http://garage:3900"
bucket = "incoming"
access_key = "a"
secret_key = "b"
idle_timeout = "7s"
"#,
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.stores.keys().collect::<Vec<_>>(), ["garage", "s3"]);
    assert_eq!(config.tiering.local_store, "garage");
    assert_eq!(config.stores["garage"].idle_timeout, Duration::from_secs(7));
    assert_eq!(config.stores["garage"].connect_timeout, Duration::from_secs(5));
    let config = load_env(&[
        ("NIGHTFERRY__STORES__SECOND_CLOUD__ROLE", "cloud"),
        ("NIGHTFERRY__STORES__SECOND_CLOUD__BUCKET", "second"),
        ("NIGHTFERRY__STORES__SECOND_CLOUD__ACCESS_KEY", "a"),
        ("NIGHTFERRY__STORES__SECOND_CLOUD__SECRET_KEY", "b"),
        ("NIGHTFERRY__TIERING__CLOUD_STORE", "second-cloud"),
    ])
    .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.tiering.cloud_store, "second-cloud");
    assert_eq!(config.stores_with(StoreRole::Cloud).count(), 2);
}

#[test]
fn stores_that_cannot_work_are_refused() {
    let message = |text: &str| only_problem(load_file(text)).message;
    assert_eq!(message("[stores.s3]\nenabled = false"), "has no enabled store with role = \"cloud\"");
    assert_eq!(
        message(
            "[stores.s3]\nendpoint = \"http://localhost:9000\"\n[stores.minio]\nbucket = \"cloud-files\""
        ),
        "is the same bucket as that of the store \"minio\""
    );
    assert_eq!(
        message("[stores.Garage]\nrole = \"local\""),
        "names a store \"Garage\", which is not a possible name"
    );
}

#[test]
fn contradictions_are_refused() {
    let message = |text: &str| only_problem(load_file(text)).message;
    assert_eq!(
        message("[tiering]\nmultipart_threshold_mb = 16"),
        "= 16 is less than tiering.part_size_mb = 32"
    );
    assert_eq!(
        message("[tiering]\nlease = \"10s\""),
        "is less than three times tiering.heartbeat, so one slow renewal would lose it"
    );
    assert_eq!(message("[tiering]\nbackoff_cap = \"500ms\""), "is longer than tiering.backoff_cap");
    assert_eq!(
        message("[tiering]\nlocal_store = \"s3\""),
        "= \"s3\" is not an enabled store with role = \"local\""
    );
    assert_eq!(message("[auth]\nrefresh_token_ttl = \"6m\""), "is longer than auth.refresh_token_ttl");
    assert_eq!(
        message("[server]\nmax_file_size_mb = 400000"),
        "= 32 is too small for server.max_file_size_mb = 400000: S3 takes at most 10000 parts"
    );
    assert_eq!(
        message("[tiering]\nschedule = \"0 0 0 30 2 *\""),
        "= \"0 0 0 30 2 *\" is a schedule that never comes due"
    );
}

#[test]
fn sslmode_of_the_url_speaks_where_tls_was_left_alone() {
    let url = ("DATABASE_URL", "postgres://u:p@db/n?sslmode=require");
    let config = load_env(&[url]).unwrap();
    assert_eq!(config.database.tls, DatabaseTls::Require);
    assert_eq!(source_of(&config, "database.tls"), "sslmode in database.url");
    let problem = only_problem(load_env(&[url, ("NIGHTFERRY__DATABASE__TLS", "disable")]));
    assert_eq!(problem.message, "= \"disable\" contradicts sslmode=require in database.url");
}

#[test]
fn numbers_and_switches_may_be_text_and_words_any_case() {
    let config = load_file(
        "[server]\nport = \"9090\"\n[auth]\nsignup = \"no\"\nalgorithm = \"hs256\"\n[tiering]\nverify = \"Read-Back\"\nfree_local_after = \"1h 30m\"",
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.server.port, 9090);
    assert!(!config.auth.signup);
    assert_eq!(config.tiering.verify, VerifyMode::ReadBack);
    assert_eq!(config.tiering.free_local_after, FreeLocalAfter::After(Duration::from_secs(5400)));
}
