//! Rules and prices: parsing and validation.

use std::time::Duration;

use super::super::{Config, FreeLocalAfter, LoadOptions};
use super::{file, least, load_env, load_file, only_problem};

#[test]
fn rules_are_read_in_order_with_unset_conditions() {
    let config = load_file(
        r#"
[[policy.rules]]
name = "fresh"
newer_than = "7d"
stores = "minio"

[[policy.rules]]
name = "videos"
content_type = "video/*, image/raw"
min_size = "1GiB"
storage_class = "standard_ia"
free_local_after = "1d"
priority = 5

[[policy.prices]]
store = "s3"
storage = "0.0230"

[[policy.prices]]
store = "s3"
storage_class = "STANDARD_IA"
requests = "0.01"
"#,
    )
    .unwrap_or_else(|errors| panic!("{errors}"));
    let rules: Vec<_> = config.policy.rules.values().collect();
    assert_eq!(rules.iter().map(|rule| rule.name.as_str()).collect::<Vec<_>>(), ["fresh", "videos"]);
    assert_eq!(rules[0].newer_than, Some(Duration::from_secs(7 * 86_400)));
    assert!(rules[0].stays("minio") && !rules[1].stays("minio"));
    assert_eq!(rules[0].evicts_after("minio", FreeLocalAfter::After(Duration::ZERO)), FreeLocalAfter::Never);
    assert_eq!(rules[1].storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(rules[1].content_type.to_string(), "video/*, image/raw");
    assert_eq!(
        rules[1].evicts_after("minio", FreeLocalAfter::Never),
        FreeLocalAfter::After(Duration::from_secs(86_400))
    );
    assert_eq!((rules[0].priority, rules[1].priority), (0, 5));
    let price = config.policy.price("s3", "STANDARD").unwrap();
    assert_eq!(price.storage.unwrap().to_string(), "0.023");
    assert_eq!(price.requests, None);
    assert!(config.policy.price("s3", "STANDARD_IA").unwrap().requests.is_some());
    assert!(config.policy.price("s3", "GLACIER").is_none());
}

#[test]
fn rules_are_optional_and_can_be_set_in_the_environment() {
    assert!(load_env(&[]).unwrap().policy.rules.is_empty());
    let config = load_env(&[
        ("NIGHTFERRY__POLICY__RULES__10__NAME", "last"),
        ("NIGHTFERRY__POLICY__RULES__2__NAME", "first"),
        ("NIGHTFERRY__POLICY__RULES__2__MAX_SIZE", "1MB"),
    ])
    .unwrap_or_else(|errors| panic!("{errors}"));
    let names: Vec<_> = config.policy.rules.values().map(|rule| rule.name.as_str()).collect();
    assert_eq!(names, ["first", "last"]);
}

#[test]
fn all_problems_with_rules_are_reported_at_once_with_numbers_keys_and_fixes() {
    let text = r#"
[[policy.rules]]
[[policy.rules]]
name = "1st"
older_than = "soon"
[[policy.rules]]
name = "default"
content_type = "video"
path = "photos"
[[policy.rules]]
name = "a"
older_then = "3d"
older_than = "9d"
newer_than = "3d"
min_size = "2MB"
max_size = "1MB"
[[policy.rules]]
name = "a"
unused_for = "3d"
used_within = "3d"
stores = "minio, s3"
location = "garage"
[[policy.rules]]
name = "b"
max_size = "1MB"
stores = "minio"
storage_class = "GLACIER"
free_local_after = "1d"
[[policy.rules]]
name = "c"
stores = "glacier"
keep_local = true
free_local_after = "never"
priority = 101
[[policy.rules]]
name = "all"
[[policy.rules]]
name = "unreached"
max_size = "1MB"
[[policy.prices]]
storage = "cheap"
[[policy.prices]]
store = "tape"
[[policy.prices]]
store = "s3"
[[policy.prices]]
store = "s3"
storage_class = "standard"
[policy]
currency = "Euro"
"#;
    let (_folder, path) = file(text);
    let options = LoadOptions { file: Some(path.clone()), env: least(), ..LoadOptions::default() };
    let errors = Config::load(options).unwrap_err().to_string();
    insta::assert_snapshot!(errors.replace(&path.display().to_string(), "nightferry.toml"));
}

#[test]
fn rule_numbers_start_at_one() {
    let problem = only_problem(load_env(&[("NIGHTFERRY__POLICY__RULES__FIRST__NAME", "x")]));
    assert_eq!(problem.message, "has \"first\" instead of a number from 1 to 99");
    let problem = only_problem(load_file("[policy]\nrules = 1"));
    assert_eq!(problem.fix, "set the settings in it; see config/example.toml");
}

#[test]
fn archive_classes_exclude_verification_by_reading_back() {
    let text =
        "[tiering]\nverify = \"read-back\"\n[[policy.rules]]\nname = \"x\"\nstorage_class = \"GLACIER\"";
    assert_eq!(
        only_problem(load_file(text)).message,
        "= \"GLACIER\" of the rule \"x\" is an archive class, whose copies cannot be read back for \
            verification"
    );
}
