//! Keys of encrypted stores: their sources, and all possible errors.

use super::super::{Config, LoadOptions};
use super::{file, least, load_env, load_file, only_problem};

const A: &str = "a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=";
const B: &str = "b:YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=";

fn with_keys(keys: &str, encryption: bool) -> (tempfile::TempDir, String) {
    let (folder, path) = file(keys);
    let path = path.display();
    let text = format!("[stores.s3]\nencryption = {encryption}\nencryption_key_file = \"{path}\"");
    (folder, text)
}

fn ids(config: &Config) -> (Option<String>, Vec<String>) {
    let keys = config.stores["s3"].keyring.as_ref().unwrap();
    (keys.active().map(|key| key.id().to_string()), keys.ids().map(ToString::to_string).collect())
}

#[test]
fn keys_come_from_a_file_or_from_the_environment() {
    let (_folder, text) = with_keys(&format!("{A}\n{B}\n"), true);
    let config = load_file(&text).unwrap();
    assert_eq!(ids(&config), (Some("a".to_owned()), vec!["a".to_owned(), "b".to_owned()]));

    let (_folder, text) = with_keys(A, false);
    assert_eq!(ids(&load_file(&text).unwrap()), (None, vec!["a".to_owned()]), "old objects are read");

    let keys = format!("{B},{A}");
    let config = load_env(&[
        ("NIGHTFERRY__STORES__S3__ENCRYPTION", "true"),
        ("NIGHTFERRY__STORES__S3__ENCRYPTION_KEYS", &keys),
    ]);
    let config = config.unwrap();
    assert_eq!(ids(&config).0.as_deref(), Some("b"));
    assert!(!format!("{config:?} {:?}", config.settings()).contains("YmJi"), "keys do not print");
    assert!(config.stores["minio"].keyring.is_none());
}

#[test]
fn all_problems_with_keys_are_reported_at_once() {
    let (_folder, text) = with_keys(&format!("{A}\nshort:YWFh\n{A}\nb:{}\n", &A[2..]), true);
    let errors = load_file(&text).unwrap_err();
    let messages: Vec<&str> = errors.problems().iter().map(|problem| problem.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "contains invalid keys: entry 2 (\"short\") has 3 bytes instead of 32",
            "contains invalid keys: two keys have the id \"a\"",
            "contains invalid keys: entry 4 (\"b\") is the same key as another entry",
        ]
    );
    assert!(errors.problems().iter().all(|problem| problem.key == "stores.s3.encryption_key_file"));
    assert!(!errors.to_string().contains("YWFh"), "{errors}");
}

#[test]
fn impossible_encryption_settings_are_rejected() {
    let message = |text: &str| only_problem(load_file(text)).message;
    assert_eq!(message("[stores.s3]\nencryption = true"), "is on, but there is no key");
    assert_eq!(
        message(&format!("[stores.minio]\nencryption = true\nencryption_keys = \"{A}\"")),
        "is on for a local store; only cloud stores can be encrypted"
    );
    assert_eq!(
        message(&format!("[stores.s3]\nencryption_key_file = \"/x\"\nencryption_keys = \"{A}\"")),
        "and stores.s3.encryption_keys are both set"
    );
    let missing = message("[stores.s3]\nencryption = true\nencryption_key_file = \"/nonexistent/keys\"");
    assert!(missing.starts_with("= \"/nonexistent/keys\" cannot be read: "), "{missing}");
}

#[cfg(unix)]
#[test]
fn a_key_file_readable_by_other_users_causes_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let (folder, text) = with_keys(A, true);
    let path = folder.path().join("nightferry.toml");
    let warning = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (_folder, config) = file(&text);
        let options = LoadOptions { file: Some(config), env: least(), ..LoadOptions::default() };
        Config::load(options).unwrap().stores["s3"].key_warning()
    };
    assert_eq!(warning(0o600), None);
    assert!(warning(0o640).unwrap().contains("chmod 600"));
}
