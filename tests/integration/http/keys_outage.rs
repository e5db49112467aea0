//! Checking tokens while Postgres is unavailable: requests do not queue for it.

use std::time::{Duration, Instant};

use nightferry_core::config::DatabaseConfig;
use nightferry_core::db::Database;
use nightferry_core::error::Error;
use nightferry_tests::harness::World;
use nightferry_tests::harness::oidc_provider::CLIENT_ID;
use serde_json::json;
use tokio::net::TcpListener;

/// A database that accepts connections and never responds.
async fn silent(config: &DatabaseConfig) -> (Database, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config.clone();
    config.url = format!("postgres://nobody@{}/nothing", listener.local_addr().unwrap()).into();
    config.acquire_timeout = Duration::from_secs(3);
    (Database::open(&config), listener)
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_checked_with_the_known_keys_while_the_database_is_away() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let tokens = &world.services.accounts.tokens;
    let (away, _listener) = silent(&world.context.config.database).await;
    // Old enough to be reloaded.
    let now = world.context.clock.now() + chrono::Duration::seconds(40);
    let started = Instant::now();
    let checks = (0..20).map(|_| tokens.check(&away, &ann.token, now));
    for checked in futures_util::future::join_all(checks).await {
        assert_eq!(checked.unwrap().sub.to_string(), ann.id);
    }
    // One request tried to reload, which takes three seconds; for one second no other request tries again.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    let again = Instant::now();
    tokens.check(&away, &ann.token, now).await.unwrap();
    assert!(again.elapsed() < Duration::from_millis(2500), "{:?}", again.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_unknown_keys_do_not_wait_for_the_database() {
    let world = World::new().await;
    let api = world.start_api();
    let ann = api.person().await;
    let tokens = &world.services.accounts.tokens;
    let (away, _listener) = silent(&world.context.config.database).await;
    let header = jsonwebtoken::Header { kid: Some("unknown".to_owned()), ..jsonwebtoken::Header::default() };
    let claims = json!({ "sub": ann.id, "iss": CLIENT_ID, "exp": 1 });
    let key = jsonwebtoken::EncodingKey::from_secret(b"made up");
    let forged = jsonwebtoken::encode(&header, &claims, &key).unwrap();
    let now = world.context.clock.now() + chrono::Duration::seconds(40);
    let started = Instant::now();
    let checks = (0..20).map(|_| tokens.check(&away, &forged, now));
    for checked in futures_util::future::join_all(checks).await {
        // The key may be new: this is unknown until the database is available again.
        assert!(matches!(checked, Err(Error::DatabaseUnavailable(_))), "{checked:?}");
    }
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}
