//! Stores can be added, disabled, and distinguished.

use std::time::Duration;

use super::super::StoreRole;
use super::{load_env, load_file, only_problem};

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
fn invalid_store_settings_are_rejected() {
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
        "contains a store \"Garage\", which is not a valid name"
    );
}

/// A second local store.
const NAS: &str = r#"
[stores.nas]
role = "local"
endpoint = "http://nas:9000"
bucket = "files"
access_key = "a"
secret_key = "b"
capacity = "8TiB"
"#;

#[test]
fn several_stores_of_a_role_need_a_main_store_and_enough_stores_for_all_copies() {
    let load = |tiering: &str| load_file(&format!("{NAS}\n[tiering]\n{tiering}"));
    let config = load("local_store = \"minio\"\nlocal_replicas = 2\nlocal_capacity = \"1GiB\"")
        .unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.stores_with(StoreRole::Local).count(), 2);
    assert_eq!(config.capacity_of("nas"), Some(8 << 40));
    assert_eq!(config.capacity_of("minio"), Some(1 << 30));
    assert_eq!(config.capacity_of("s3"), None);
    let problem = only_problem(load("local_store = \"minio\"\nlocal_replicas = 3"));
    assert_eq!(problem.key, "tiering.local_replicas");
    let problem = only_problem(load(""));
    assert_eq!(problem.key, "tiering.local_store");
    let problem = only_problem(load("local_store = \"minio\"\ncloud_replicas = 2"));
    assert_eq!(problem.key, "tiering.cloud_replicas");
}
