//! `nightferry migrate --revert`: it shows what it would do, asks for consent, and refuses while processes are connected.

use nightferry_core::db::migrate;
use nightferry_tests::harness::database::{execute, execute_on};
use nightferry_tests::harness::{World, eventually};
use serde_json::json;

/// The newest migrations, down to one that loses information.
fn newest() -> (String, Vec<&'static str>) {
    let names: Vec<&str> = migrate::ALL.iter().rev().map(|script| script.name).collect();
    let last = names.iter().position(|name| name.contains("000035")).unwrap();
    ((last + 1).to_string(), names[..=last].to_vec())
}

/// Closes all connections of this process, which keep migrations from being reverted.
async fn disconnect(world: &World) {
    // Its own as the last one: the statement may fail because of that.
    let sql = "SELECT pg_terminate_backend(pid) FROM ( \
                   SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                     AND application_name = 'nightferry' ORDER BY pid = pg_backend_pid() OFFSET 0) AS sessions";
    let _ = execute(&world.context.db, sql).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn migrations_are_reverted_with_consent_and_applied_again() {
    let world = World::new().await;
    let (count, names) = newest();

    let (code, shown) = world.json_command(&["migrate", "--revert", &count]).await;
    assert_eq!((code, &shown["reverted"], &shown["migrations"]), (0, &json!(false), &json!(names)));
    let losses = shown["losses"].as_array().unwrap();
    assert!(losses.iter().any(|loss| loss.as_str().unwrap().contains("suspect")), "{shown}");
    let (_, status) = world.json_command(&["migrate", "--status"]).await;
    assert_eq!(status["up_to_date"], json!(true));

    let (code, refused) = world.json_command(&["migrate", "--revert", &count, "--yes"]).await;
    assert_eq!((code, &refused["error"]["kind"]), (4, &json!("information_lost")));

    disconnect(&world).await;
    let revert = ["migrate", "--revert", &count, "--yes", "--force"];
    // The connections end a moment after they were told to.
    let reverted = eventually("the migrations are reverted", || async {
        let (code, document) = world.json_command(&revert).await;
        (code == 0).then_some(document)
    })
    .await;
    assert_eq!((&reverted["reverted"], &reverted["migrations"]), (&json!(true), &json!(names)));

    let (code, applied) = world.json_command(&["migrate"]).await;
    let oldest_first: Vec<&str> = names.iter().rev().copied().collect();
    assert_eq!((code, &applied["applied"]), (0, &json!(oldest_first)));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_reverted_while_a_process_is_connected() {
    let world = World::new().await;
    let (count, _) = newest();
    let mut connected = world.context.db.conn().await.unwrap();
    execute_on(&mut connected, "SELECT 1").await;

    let (code, refused) = world.json_command(&["migrate", "--revert", &count, "--yes", "--force"]).await;

    assert_eq!((code, &refused["error"]["kind"]), (4, &json!("conflict")));
    let reason = refused["error"]["reason"].as_str().unwrap();
    assert!(reason.contains("connected to the database: nightferry at "), "{reason}");
    assert!(migrate::pending(&world.context.db).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_number_of_migrations_is_refused() {
    let world = World::new().await;
    let (code, refused) = world.json_command(&["migrate", "--revert", "1000", "--yes", "--force"]).await;
    assert_eq!(code, 2);
    let reason = refused["error"]["reason"].as_str().unwrap();
    assert_eq!(reason, format!("{} migrations are applied, fewer than 1000", migrate::ALL.len()));
    for wrong in [["migrate", "--revert", "0"], ["migrate", "--revert", "two"]] {
        let (code, refused) = world.json_command(&wrong).await;
        assert_eq!((code, &refused["error"]["kind"]), (2, &json!("usage")), "{wrong:?}");
    }
    assert!(migrate::pending(&world.context.db).await.unwrap().is_empty());
}
