//! The command line as used by scripts and supervisors: one document in any case, and termination on request.

use std::os::unix::process::ExitStatusExt as _;

use nightferry_api_types::run::Run;
use nightferry_core::db::enums::{RunStatus, RunTrigger};
use nightferry_tests::harness::database::{execute_on, texts};
use nightferry_tests::harness::{World, eventually, pattern};
use serde_json::Value;

/// Waits until a process waits for a lock of this kind in the database of the world.
async fn waits_for_lock(world: &World, kind: &str) {
    let sql = format!(
        "SELECT count(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) \
         WHERE NOT l.granted AND l.locktype = '{kind}' AND a.datname = current_database()"
    );
    eventually("a process waits for the lock", || async {
        (texts(&world.context.db, &sql).await != ["0"]).then_some(())
    })
    .await;
}

/// Waits until a process asks for the lock of migrations, which it does again and again.
async fn asks_for_the_migration_lock(world: &World) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
               AND pid <> pg_backend_pid() AND query LIKE 'SELECT pg_try_advisory_lock%'";
    eventually("a process asks for the lock", || async {
        (texts(&world.context.db, sql).await != ["0"]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_command_line_is_reported_in_one_document_too() {
    let world = World::new().await;
    for (arguments, said) in [
        (["--json", "sync", "--frobnicate"], "--frobnicate"),
        (["sync", "show", "--json"], "<RUN>"),
        (["--json", "user", "lists"], "lists"),
    ] {
        let process = world.start_process(&arguments).await;
        assert_eq!(process.ended().await.code(), Some(2), "{}", process.output());
        let document: Value = serde_json::from_str(&process.stdout()).expect("one document");
        assert_eq!(
            (&document["error"]["kind"], &document["error"]["exit_code"]),
            (&"usage".into(), &2.into())
        );
        assert!(document["error"]["message"].as_str().unwrap().contains(said), "{document}");
    }
    let plain = world.start_process(&["sync", "--frobnicate"]).await;
    assert_eq!((plain.ended().await.code(), plain.stdout().as_str()), (Some(2), ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn json_shapes_are_the_same_over_http_and_on_the_command_line() {
    let world = World::new().await;
    let api = world.start_api();
    let admin = api.admin(&world).await;
    let file = admin.upload("a.txt", pattern(1, 1000)).await;
    let (_, plan) = world.json_command(&["sync", "plan", "--files"]).await;
    let path = format!("/api/admin/sync/plans/{}", plan["plan_id"].as_str().unwrap());
    assert_eq!(plan, admin.get(&path).await);
    assert_eq!(plan["items"][0]["file_id"], file["id"]);

    let (_, asked) = world.json_command(&["sync", "run"]).await;
    let run: Run = serde_json::from_value(asked["run"].clone()).unwrap();
    assert_eq!((run.status, run.trigger), (RunStatus::Queued, RunTrigger::Cli));
    let run = run.id.to_string();
    let seen = admin.get(&format!("/api/admin/sync/runs/{run}")).await;
    assert_eq!((&asked["run"], &admin.get("/api/admin/sync/runs").await["runs"][0]), (&seen, &seen));
    assert_eq!(world.json_command(&["sync", "show", &run]).await.1["run"], seen);

    let (_, user) = world.json_command(&["user", "show", &admin.email]).await;
    assert_eq!(user["user"], admin.get(&format!("/api/admin/users/{}", admin.id)).await);
    let (_, rebalance) = world.json_command(&["store", "rebalance"]).await;
    assert_eq!(rebalance, admin.get("/api/admin/stores/rebalance").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn services_can_be_stopped_while_they_wait_for_migrations() {
    for command in ["serve", "worker"] {
        // Each with a separate database: the connection of a stopped process may keep waiting for a while.
        let world = World::new().await;
        let mut migrating = world.context.db.conn().await.unwrap();
        // The migration lock, see core/db/src/migrate/session.rs.
        execute_on(&mut migrating, &format!("SELECT pg_advisory_lock({})", 0x6e69_6768_7466_6572_i64)).await;
        let service = world.start_process(&[command]).await;
        asks_for_the_migration_lock(&world).await;
        service.terminate();
        assert_eq!(service.ended().await.code(), Some(130), "{}", service.output());
        assert!(service.output().contains("before it had started"), "{}", service.output());
        execute_on(&mut migrating, "SELECT pg_advisory_unlock_all()").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_ctrl_c_ends_immediately() {
    let world = World::new().await;
    world.user().await;
    let following = world.start_process(&["audit", "tail", "--follow"]).await;
    following.says("user.").await;
    let mut holder = world.context.db.conn().await.unwrap();
    execute_on(&mut holder, "BEGIN").await;
    execute_on(&mut holder, "LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE").await;
    waits_for_lock(&world, "relation").await;

    assert_eq!(following.interrupted().await.code(), Some(130), "{}", following.output());

    execute_on(&mut holder, "COMMIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_audit_tail() {
    let world = World::new().await;
    let mut holder = world.context.db.conn().await.unwrap();
    execute_on(&mut holder, "BEGIN").await;
    execute_on(&mut holder, "LOCK TABLE audit_events IN ACCESS EXCLUSIVE MODE").await;
    let looking = world.start_process(&["audit", "tail"]).await;
    waits_for_lock(&world, "relation").await;

    let ended = looking.interrupted().await;

    assert_eq!(ended.signal(), Some(2), "{ended} {}", looking.output());
    execute_on(&mut holder, "COMMIT").await;
}
