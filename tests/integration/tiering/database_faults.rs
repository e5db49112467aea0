//! A database that restarts or is unavailable during a run: the run finishes, and nothing is done twice or lost.

use std::time::Duration;

use nightferry_core::db::enums::RunStatus;
use nightferry_core::db::runs::RunScope;
use nightferry_core::file::details::FileView;
use nightferry_core::tiering::run;
use nightferry_tests::harness::fault_proxy::{Hold, Match};
use nightferry_tests::harness::{World, assert_invariants, pattern};
use reqwest::Method;

const MIB: u64 = 1024 * 1024;
const SMALL_FILES: u64 = 30;
/// Ten parts.
const LARGE: u64 = 80 * MIB;

fn puts() -> Match {
    Match::method(Method::PUT)
}

/// A world with a separate Postgres and leases that are shorter than the database outage.
async fn world() -> (World, Vec<FileView>) {
    let world = World::with("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .set("tiering.lease", "4s")
        .set("tiering.heartbeat", "500ms")
        .set("database.acquire_timeout", "1s")
        .own_postgres()
        .build()
        .await;
    let user = world.user().await;
    let mut files = vec![world.upload(user, "large", pattern(0, LARGE)).await];
    for seed in 1..=SMALL_FILES {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await);
    }
    (world, files)
}

async fn assert_done_once(world: &World, requested: nightferry_core::ids::RunId, files: &[FileView]) {
    let run = world.ended(requested).await;
    assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
    let all = files.len() as i64;
    assert_eq!((run.files_total, run.files_done, run.files_failed), (all, all, 0));
    assert_eq!(run.bytes_done, (LARGE + SMALL_FILES * 10_000) as i64);
    assert_eq!(world.cloud.count(&puts()) as u64, SMALL_FILES + 10, "each file and each part once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_restarts_in_the_middle_of_a_run() {
    let (world, files) = world().await;
    let postgres = world.postgres.as_ref().unwrap();
    let gate = world.cloud.gate(puts().parameter("partNumber", "2"), Hold::RequestBody(MIB));
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached().await;

    postgres.stop().await;
    gate.open();
    postgres.restart().await;

    assert_done_once(&world, requested.id, &files).await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_for_longer_than_a_lease() {
    let (world, files) = world().await;
    let postgres = world.postgres.as_ref().unwrap();
    let gate = world.cloud.gate(puts().parameter("partNumber", "2"), Hold::RequestBody(MIB));
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached().await;

    postgres.stop().await;
    gate.open();
    // Everything that needs no database is sent; then the outage itself is tested.
    world.cloud.until(|requests| requests.iter().all(|request| request.done)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    postgres.restart().await;

    assert_done_once(&world, requested.id, &files).await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_starts_before_its_database() {
    let (world, files) = world().await;
    let postgres = world.postgres.as_ref().unwrap();
    let requested = world.request_run(RunScope::default()).await;
    postgres.stop().await;
    let worker = world.start_worker();
    // The worker cannot report this to the test; this gives it time to reach the closed port.
    tokio::time::sleep(Duration::from_secs(1)).await;
    postgres.restart().await;

    assert_done_once(&world, requested.id, &files).await;
    assert!(run::active(&world.context).await.unwrap().is_none());
    worker.stop().await;
}
