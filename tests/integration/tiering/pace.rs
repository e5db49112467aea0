//! The bandwidth limit of a worker: shared by all its transfers, and never mistaken for an inactive store.
#![allow(clippy::cast_precision_loss, reason = "rates are compared with a wide margin")]

use std::time::{Duration, Instant};

use chrono::NaiveTime;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::runs::RunScope;
use nightferry_core::tiering::run;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::Match;
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn world(bandwidth: &str) -> WorldBuilder {
    World::with("tiering.bandwidth", bandwidth)
        .set("tiering.multipart_threshold_mib", 8)
        .set("tiering.part_size_mib", 8)
        .set("tiering.schedule", "0 0 0 1 1 *")
}

/// Uploads files of these sizes, syncs them, and returns the bytes per second from the first request with content to
/// the end.
async fn rate_of(world: &World, sizes: &[u64]) -> f64 {
    let user = world.user().await;
    for (seed, size) in sizes.iter().enumerate() {
        world.upload(user, &format!("{seed}"), pattern(seed as u64, *size)).await;
    }
    world.local.forget_requests();
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    world.local.until(|requests| requests.iter().any(|request| request.method == Method::GET)).await;
    let began = Instant::now();
    let run = world.ended(requested.id).await;
    let took = began.elapsed();
    assert_eq!((run.status, run.files_failed), (RunStatus::Succeeded, 0), "{:?}", run.error);
    assert_eq!(run.bytes_done, sizes.iter().sum::<u64>() as i64);
    let attempts = texts(&world.context.db, "SELECT max(attempts) FROM replicas").await;
    assert_eq!(attempts, ["0"], "nothing was attempted twice");
    worker.stop().await;
    assert_invariants(world).await;
    run.bytes_done as f64 / took.as_secs_f64()
}

fn assert_within_a_fifth(found: f64, limit: u64) {
    let limit = limit as f64;
    assert!((limit * 0.8..limit * 1.2).contains(&found), "{found} bytes/s at a limit of {limit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn four_files_at_once_share_the_limit() {
    let world = world("1MiB/s").build().await;
    assert_within_a_fifth(rate_of(&world, &[MIB; 4]).await, MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_small_files_keep_to_the_limit() {
    let world = world("512KiB/s").build().await;
    assert_within_a_fifth(rate_of(&world, &[40 * KIB; 40]).await, 512 * KIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_of_a_large_file_keep_to_the_limit() {
    let world = world("6MiB/s").build().await;
    assert_within_a_fifth(rate_of(&world, &[20 * MIB]).await, 6 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_for_verification_count_against_the_bandwidth() {
    let world = world("1MiB/s").set("tiering.verify", "read-back").build().await;
    assert_within_a_fifth(rate_of(&world, &[512 * KIB; 4]).await, MIB / 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_bandwidth_limit_does_not_cause_timeouts() {
    // Each of six streams may send only every few seconds, and transfers are aborted after one second without progress.
    let world = world("64KiB/s")
        .set("stores.minio.idle_timeout", "1s")
        .set("stores.s3.idle_timeout", "1s")
        .build()
        .await;
    assert_within_a_fifth(
        rate_of(&world, &[300 * KIB, 60 * KIB, 10 * KIB, 3 * KIB, 2 * KIB, KIB]).await,
        64 * KIB,
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rate_can_change_in_the_middle_of_a_part() {
    let world = world("08:00-18:00 64KiB/s, 18:00-08:00 unlimited").build().await;
    let user = world.user().await;
    let file = world.upload(user, "large", pattern(1, 20 * MIB)).await;
    let clock = &world.context.clock;
    let evening = clock.now().date_naive().and_time(NaiveTime::from_hms_opt(17, 0, 0).unwrap()).and_utc();
    clock.advance(evening + chrono::Duration::days(1) - clock.now());
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    let part = Match::method(Method::PUT).has_parameter("partNumber");
    world.cloud.until(|requests| requests.iter().any(|request| part.holds(request))).await;

    clock.advance(chrono::Duration::hours(2));
    let changed = Instant::now();

    let run = world.ended(requested.id).await;
    // At the slow rate it would take five minutes.
    assert!(changed.elapsed() < Duration::from_secs(20), "{:?}", changed.elapsed());
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1));
    assert_eq!(world.stored("s3", &file).await, Some(pattern(1, 20 * MIB).sha256()));
    worker.stop().await;
}

/// A worker with a slow transfer that would take minutes.
async fn held_back(grace: &str) -> (World, nightferry_core::ids::RunId) {
    let world =
        world("64KiB/s").set("tiering.lease", "10m").set("tiering.shutdown_grace", grace).build().await;
    let user = world.user().await;
    world.upload(user, "large", pattern(1, 20 * MIB)).await;
    world.upload(user, "small", pattern(2, MIB)).await;
    let requested = world.request_run(RunScope::default()).await.id;
    (world, requested)
}

async fn both_in_flight(world: &World) {
    world
        .cloud
        .until(|requests| requests.iter().filter(|request| request.method == Method::PUT).count() >= 2)
        .await;
}

async fn states(world: &World) -> Vec<String> {
    texts(&world.context.db, "SELECT DISTINCT state FROM replicas WHERE store = 's3'").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_shuts_down_during_throttled_transfers() {
    let (world, _) = held_back("0s").await;
    let worker = world.start_worker();
    both_in_flight(&world).await;

    worker.stop().await;

    assert_eq!(states(&world).await, [ReplicaState::Queued.as_str()]);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_gets_sigterm_while_it_throttles_leaves_nothing_claimed() {
    let (world, _) = held_back("1s").await;
    let worker = world.start_worker_process().await;
    both_in_flight(&world).await;

    worker.terminate();
    let status = worker.ended().await;

    assert!(status.success(), "{status}:\n{}", worker.output());
    assert_eq!(states(&world).await, [ReplicaState::Queued.as_str()]);
    assert!(texts(&world.context.db, "SELECT id FROM workers").await.is_empty(), "it has unregistered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_cancelled_while_transfers_are_throttled() {
    let (world, requested) = held_back("0s").await;
    let worker = world.start_worker();
    both_in_flight(&world).await;

    run::cancel(&world.context, requested, None, &Origin::default()).await.unwrap();
    // The transfer in flight would take minutes; a worker that is stopped releases it.
    worker.stop().await;

    assert_eq!(states(&world).await, [ReplicaState::Queued.as_str()]);
    let next = world.plain_context();
    let worker = nightferry_tests::harness::WorkerHandle::start(next);
    eventually("the run has ended", || async {
        let run = run::find(&world.context, requested).await.unwrap().run;
        (run.status == RunStatus::Cancelled).then_some(())
    })
    .await;
    worker.stop().await;
}
