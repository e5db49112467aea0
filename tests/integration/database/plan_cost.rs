//! The cost of planning depends on the number of new files, not on the number of synced ones.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::replicas::{self, Until};
use nightferry_core::db::runs::RunScope;
use nightferry_core::tiering::{plan, policy};
use nightferry_tests::harness::{Catalogue, World, WorldBuilder, catalogue, database};

const SYNCED: i64 = catalogue::FILES;
const NEW: i64 = 200;

fn settings() -> WorldBuilder {
    WorldBuilder::default().with_files(Catalogue::Synced)
}

/// Files of which all but the last few are in both stores.
async fn with_new_files(builder: WorldBuilder) -> World {
    let world = builder.build().await;
    let owner = world.owner_of_files().await;
    Catalogue::Uploaded.insert(&world.context.db, owner, SYNCED + 1..=SYNCED + NEW).await;
    world
}

fn by_rules() -> WorldBuilder {
    settings()
        .set("policy.rules.1.name", "old")
        .set("policy.rules.1.older_than", "30d")
        .set("policy.rules.2.name", "projects")
        .set("policy.rules.2.path", "/projects/**")
        .set("policy.rules.3.name", "mine")
        .set("policy.rules.3.owner", "*@example.org")
        .set("policy.rules.3.priority", "3")
}

/// The copies that a run requested now would make.
async fn planned(world: &World) -> i64 {
    let plan = plan::make(&world.context, &RunScope::default(), None, &Origin::default()).await.unwrap();
    plan.files.try_into().unwrap()
}

async fn a_run_reads_what_is_new(builder: WorldBuilder) {
    let world = with_new_files(builder).await;
    let run = world.request_run(RunScope::default()).await;
    let policy = policy::of(&world.context).unwrap();

    let (read, planned) = database::rows_read(&world.context.db, async |conn| {
        let scope = RunScope::default();
        replicas::plan_until(conn, run.id, &policy, &scope, Until::RunRequested(run.id)).await
    })
    .await;

    assert_eq!((planned.files, planned.bytes), (NEW, NEW * SYNCED + NEW * (NEW + 1) / 2));
    assert!(read <= NEW * 20, "read {read} rows for {NEW} new files among {SYNCED}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_without_rules_only_reads_new_files() {
    a_run_reads_what_is_new(settings()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_with_rules_only_reads_new_files() {
    a_run_reads_what_is_new(by_rules()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn planned_copies_are_not_planned_again_and_waiting_ones_are_taken_over() {
    let world = with_new_files(by_rules()).await;
    assert_eq!(planned(&world).await, NEW);

    // Copies queued by another run, copies queued without a run, failed copies and lost copies: each is in the next
    // plan once.
    let first = world.request_run(RunScope::default()).await;
    let mut conn = world.context.db.conn().await.unwrap();
    let policy = policy::of(&world.context).unwrap();
    replicas::plan_until(&mut conn, first.id, &policy, &RunScope::default(), Until::Now).await.unwrap();
    for sql in [
        "UPDATE replicas SET run_id = NULL WHERE state = 'queued' AND object_id < '80000000-0000-0000-0000-000000000000'",
        "UPDATE replicas SET state = 'lost' WHERE store = 's3' AND state = 'present' AND object_id IN \
             (SELECT id FROM objects WHERE size <= 10)",
    ] {
        database::execute(&world.context.db, sql).await.unwrap();
    }
    assert_eq!(planned(&world).await, NEW + 10);
    let ended = "UPDATE runs SET status = 'cancelled', finished_at = now()";
    database::execute(&world.context.db, ended).await.unwrap();

    let second = world.request_run(RunScope::default()).await;
    let taken =
        replicas::plan_until(&mut conn, second.id, &policy, &RunScope::default(), Until::Now).await.unwrap();
    let queued = replicas::queued_in(&mut conn, second.id).await.unwrap();
    assert_eq!((taken, taken.files), (queued, NEW + 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_deleted_by_hand_are_planned_again() {
    let world = with_new_files(settings()).await;
    let sql =
        "DELETE FROM replicas WHERE store = 's3' AND object_id IN (SELECT id FROM objects WHERE size <= 7)";
    database::execute(&world.context.db, sql).await.unwrap();
    let mut conn = world.context.db.conn().await.unwrap();

    assert_eq!(replicas::correct_evictable(&mut conn, &["minio"], &["s3"]).await.unwrap(), 7);
    assert_eq!(replicas::correct_evictable(&mut conn, &["minio"], &["s3"]).await.unwrap(), 0);
    drop(conn);
    assert_eq!(planned(&world).await, NEW + 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_cloud_store_gets_everything() {
    let world = with_new_files(settings()).await;
    database::execute(&world.context.db, "UPDATE replicas SET store = 'before' WHERE store = 's3'")
        .await
        .unwrap();

    assert_eq!(planned(&world).await, SYNCED + NEW);
}
