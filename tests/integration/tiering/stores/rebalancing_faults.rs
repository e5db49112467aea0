//! Rebalancing under faults: nothing is lost, it waits with a reason, and continues on its own.

use nightferry_core::db::audit::Origin;
use nightferry_core::file::change;
use nightferry_core::file::details::FileView;
use nightferry_core::tiering::relocate::rebalance;
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Gate, Hold, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern, states};
use reqwest::Method;

use super::{counted, even_out, evened_out, hash, keys, rebalance_waits_for};

const FILES: u64 = 8;

fn two() -> WorldBuilder {
    WorldBuilder::default().another_local("nas").set("tiering.heartbeat", "300ms")
}

async fn uploaded(world: &World) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..FILES {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await);
    }
    files
}

async fn assert_readable(world: &World, files: &[FileView]) {
    for (seed, file) in (0..).zip(files) {
        assert_eq!(hash(world, file).await, pattern(seed, 10_000).sha256());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_wait_while_the_destination_returns_500() {
    let world = two().set("tiering.max_attempts", 2).set("tiering.backoff_initial", "10ms").build().await;
    let files = uploaded(&world).await;
    let fault = world.proxy("nas").add(Fault::status(500, "InternalError").on(Method::PUT));
    let worker = world.start_worker();

    even_out(&world).await;
    eventually("it was attempted", || async { (fault.struck() > 4).then_some(()) }).await;
    rebalance_waits_for(&world, "500").await;

    assert_eq!(keys(&world, "minio").await.len(), 8, "nothing is deleted before it is verified elsewhere");
    assert_readable(&world, &files).await;
    fault.remove();
    // Failed copies are retried on request.
    execute(&world.context.db, "UPDATE replicas SET not_before = now() WHERE state = 'queued'")
        .await
        .unwrap();
    assert_eq!(even_out(&world).await.state(), "running");
    evened_out(&world).await;
    assert_eq!(states(&world).await, counted([("minio present", 4), ("nas present", 4)]));
    worker.stop().await;
    assert_readable(&world, &files).await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_rejected_by_the_other_store_stay_and_leave_no_trace_when_stopped() {
    let world = two().build().await;
    let files = uploaded(&world).await;
    let refusal = world.proxy("nas").add(Fault::status(403, "AccessDenied").on(Method::PUT));
    let worker = world.start_worker();
    even_out(&world).await;
    rebalance_waits_for(&world, "AccessDenied").await;

    assert!(rebalance::stop(&world.context, None, &Origin::default()).await.unwrap());
    let stopped = evened_out(&world).await;

    assert_eq!((stopped.state(), stopped.moved()), ("stopped", (0, 0)));
    eventually("no copy is left over", || async {
        (states(&world).await == counted([("minio present", 8)])).then_some(())
    })
    .await;
    refusal.remove();
    assert_readable(&world, &files).await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn moves_wait_while_the_destination_is_down_and_report_why() {
    let world = two().set("health.interval", "200ms").set("tiering.concurrency", 1).build().await;
    let files = uploaded(&world).await;
    let worker = world.start_worker();
    // One copy has arrived, and its source is not deleted yet, when the store goes down.
    world.local.add(Fault::no_batch_deletions());
    let gate = world.local.gate(Match::method(Method::DELETE), Hold::Request);
    even_out(&world).await;
    gate.reached().await;
    world.proxy("nas").down().await;
    eventually("it is detected", || async {
        (!world.context.stores.health().is_healthy("nas")).then_some(())
    })
    .await;
    gate.open();

    rebalance_waits_for(&world, "nas is down").await;

    assert_eq!(
        keys(&world, "minio").await.len(),
        7,
        "the others are kept as long as they cannot be read there"
    );
    world.proxy("nas").up().await;
    evened_out(&world).await;
    assert_eq!(states(&world).await, counted([("minio present", 4), ("nas present", 4)]));
    assert_readable(&world, &files).await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_queued_for_a_full_store_and_the_reason_is_reported() {
    let world = two().build().await;
    let files = uploaded(&world).await;
    world.make_full("nas").await;
    let worker = world.start_worker();
    even_out(&world).await;

    rebalance_waits_for(&world, "nas is full").await;

    assert_eq!(states(&world).await, counted([("minio present", 8)]));
    world.context.stores.health().end_pauses();
    evened_out(&world).await;
    assert_eq!(states(&world).await, counted([("minio present", 4), ("nas present", 4)]));
    assert_readable(&world, &files).await;
    worker.stop().await;
    assert_invariants(&world).await;
}

/// A worker is killed while one of its requests waits at a gate; another one finishes.
async fn is_finished_by_the_next_worker(in_the_way: impl Fn(&World) -> Gate) {
    let world = two().build().await;
    let files = uploaded(&world).await;
    for file in &files {
        change::pin(&world.context, file.row.id, true, &Origin::default()).await.unwrap();
    }
    let gate = in_the_way(&world);
    let worker = world.start_worker_process().await;
    even_out(&world).await;
    gate.reached().await;
    worker.kill();
    gate.open();
    world.expire_leases().await;
    assert_readable(&world, &files).await;

    let next = world.start_worker();
    let ended = evened_out(&world).await;

    next.stop().await;
    assert_eq!(ended.moved(), (4, 40_000));
    assert_eq!(states(&world).await, counted([("minio present", 4), ("nas present", 4)]));
    let left = texts(&world.context.db, "SELECT 1 FROM replicas WHERE moves_to IS NOT NULL").await;
    assert!(left.is_empty());
    assert_readable(&world, &files).await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_while_it_copies_is_replaced() {
    is_finished_by_the_next_worker(|world| {
        world.proxy("nas").gate(Match::method(Method::PUT), Hold::Request)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_before_it_deletes_is_replaced() {
    is_finished_by_the_next_worker(|world| world.local.gate(Match::deletions(), Hold::Request)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_killed_after_it_deleted_is_replaced() {
    is_finished_by_the_next_worker(|world| world.local.gate(Match::deletions(), Hold::Answer)).await;
}
