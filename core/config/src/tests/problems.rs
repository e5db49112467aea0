//! All problems are reported at once, with source and fix.

use super::super::{Config, LoadOptions};
use super::{env, load_env, load_file, only_problem};

#[test]
fn nothing_given_names_everything_required() {
    let errors = Config::load(LoadOptions::default()).unwrap_err();
    insta::assert_snapshot!(errors);
}

#[test]
fn all_errors_are_reported_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("nightferry.toml");
    let text = r#"
[server]
prot = 80
max_file_size_mib = "huge"
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
part_size_mib = 12
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
fn invalid_toml_is_reported_with_its_line_and_without_its_text() {
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
        ("[server]\ntime_zone = \"UTC\"", "did you mean tiering.time_zone?"),
        ("[stores.minio]\nbuket = \"x\"", "did you mean stores.minio.bucket?"),
        ("[server]\nfrobnicate = 1", "remove it; config/example.toml lists all settings"),
        ("[nonsense]", "remove it; config/example.toml lists all settings"),
        ("server = 1", "set the settings in it; see config/example.toml"),
    ] {
        assert_eq!(only_problem(load_file(text)).fix, fix, "{text}");
    }
    let problem = only_problem(load_env(&[("NIGHTFERRY__TIERING__SHEDULE", "x")]));
    assert_eq!(problem.fix, "did you mean tiering.schedule?");
    assert_eq!(problem.source, "environment variable NIGHTFERRY__TIERING__SHEDULE");
}

#[test]
fn urls_with_unused_parts_are_rejected() {
    let message = |name: &str, value: &str| only_problem(load_env(&[(name, value)])).message;
    let path = message("NIGHTFERRY__SERVER__PUBLIC_URL", "https://example.org/files/");
    assert!(path.contains("has a path"), "{path}");
    let redis = message("NIGHTFERRY__LIMITS__REDIS_URL", "redis://:hunter2@cache/limits");
    assert!(redis.contains("is not a database number") && !redis.contains("hunter2"), "{redis}");
    for good in ["redis://cache", "redis://cache/", "redis://cache:6379/7"] {
        load_env(&[("NIGHTFERRY__LIMITS__REDIS_URL", good)]).unwrap();
    }
    let config = load_env(&[("NIGHTFERRY__SERVER__PUBLIC_URL", "https://example.org/")]).unwrap();
    assert_eq!(config.server.base_url(), "https://example.org");
}

#[test]
fn contradicting_settings_are_rejected() {
    let message = |text: &str| only_problem(load_file(text)).message;
    assert_eq!(
        message("[tiering]\nmultipart_threshold_mib = 16"),
        "= 16 is less than tiering.part_size_mib = 32"
    );
    assert_eq!(
        message("[tiering]\nlease = \"10s\""),
        "is less than three times tiering.heartbeat, so that one slow renewal would lose the lease"
    );
    assert_eq!(message("[tiering]\nbackoff_cap = \"500ms\""), "is longer than tiering.backoff_cap");
    assert_eq!(
        message("[tiering]\nlocal_store = \"s3\""),
        "= \"s3\" is not an enabled store with role = \"local\""
    );
    assert_eq!(
        message("[uploads]\nreap_after = \"60s\""),
        "is not longer than server.client_idle_timeout, so that slow uploads would be removed"
    );
    assert_eq!(message("[auth]\nrefresh_token_ttl = \"6m\""), "is longer than auth.refresh_token_ttl");
    assert_eq!(
        message("[server]\nmax_file_size_mib = 400000"),
        "= 32 is too small for server.max_file_size_mib = 400000: S3 takes at most 10000 parts"
    );
    assert_eq!(
        message("[tiering]\nschedule = \"0 0 0 30 2 *\""),
        "= \"0 0 0 30 2 *\" is a schedule that never comes due"
    );
}
