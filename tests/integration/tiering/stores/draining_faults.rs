//! Draining a store under faults: nothing is lost, it waits with a reason, and continues on its own.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::ReplicaState;
use nightferry_core::db::runs::RunScope;
use nightferry_core::tiering::relocate::drain as draining;
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern, states};
use reqwest::Method;

use super::{counted, drain, drained, hash, keys, waits_for};

fn two_locals() -> WorldBuilder {
    WorldBuilder::default().another_local("nas").set("tiering.heartbeat", "300ms")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_with_the_only_copies_waits_for_the_other_store_and_reports_why() {
    let world = two_locals().build().await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..5 {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 5_000)).await);
    }
    world.proxy("nas").down().await;
    let worker = world.start_worker();

    drain(&world, "minio").await;
    let reason = waits_for(&world, "minio", "nas").await;
    eventually("the reason describes the failure", || async {
        let now = draining::look(&world.context, "minio").await.unwrap().unwrap();
        now.drain.waits_for.filter(|reason| reason.contains("store nas"))
    })
    .await;
    assert!(reason.contains("5 to be copied to nas"), "{reason}");
    assert_eq!(keys(&world, "minio").await.len(), 5, "nothing is deleted before it is verified elsewhere");
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(hash(&world, file).await, pattern(seed as u64, 5_000).sha256());
    }
    world.proxy("nas").up().await;

    drained(&world, "minio").await;

    assert_eq!(states(&world).await, counted([("nas present", 5)]));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_rejected_by_the_other_store_are_kept_reported_and_retried() {
    let world = two_locals().set("tiering.max_attempts", "1").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 5_000)).await;
    let refusal = world.proxy("nas").add(Fault::status(400, "InvalidRequest").on(Method::PUT));
    let worker = world.start_worker();
    drain(&world, "minio").await;
    waits_for(&world, "minio", "InvalidRequest").await;
    assert_eq!(world.replica("nas", &file).await.unwrap().state, ReplicaState::Failed);
    assert_eq!(world.replica("minio", &file).await.unwrap().state, ReplicaState::Present);
    refusal.remove();

    drain(&world, "minio").await;

    drained(&world, "minio").await;

    assert_eq!(hash(&world, &file).await, pattern(1, 5_000).sha256());
    worker.stop().await;
    assert_invariants(&world).await;
}

/// A worker is killed while a request of its drain waits at a gate; another one finishes.
async fn is_finished_by_the_next_worker(
    in_the_way: impl Fn(&World) -> nightferry_tests::harness::fault_proxy::Gate,
) {
    let world = two_locals().build().await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..8 {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 5_000)).await);
    }
    let gate = in_the_way(&world);
    let worker = world.start_worker_process().await;
    drain(&world, "minio").await;
    gate.reached().await;
    worker.kill();
    gate.open();
    world.expire_leases().await;
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(hash(&world, file).await, pattern(seed as u64, 5_000).sha256());
    }

    let next = world.start_worker();
    drained(&world, "minio").await;

    next.stop().await;
    assert_eq!(states(&world).await, counted([("nas present", 8)]));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_is_undone_loses_nothing_and_can_be_started_again() {
    let world = two_locals().set("tiering.concurrency", 1).set("tiering.batch_size", 1).build().await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..6 {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 5_000)).await);
    }
    let gate = world.proxy("nas").gate(Match::method(Method::PUT), Hold::Request);
    let worker = world.start_worker();
    drain(&world, "minio").await;
    gate.reached().await;

    draining::cancel(&world.context, "minio", None, &Origin::default()).await.unwrap();
    gate.open();
    eventually("the copies in progress have ended", || async {
        texts(&world.context.db, "SELECT 1 FROM replicas WHERE state IN ('copying', 'evicting')")
            .await
            .is_empty()
            .then_some(())
    })
    .await;
    assert_eq!(keys(&world, "minio").await.len(), 6, "nothing was deleted");
    let waiting = texts(
        &world.context.db,
        "SELECT 1 FROM replicas WHERE state = 'queued' AND attempts = 0 AND last_error IS NULL",
    )
    .await;
    assert!(waiting.len() <= 1, "copies that had not started are dropped: {waiting:?}");

    drain(&world, "minio").await;
    drained(&world, "minio").await;

    for (seed, file) in files.iter().enumerate() {
        assert_eq!(hash(&world, file).await, pattern(seed as u64, 5_000).sha256());
    }
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_turns_out_to_be_bad_is_never_the_only_one_left() {
    let world = two_locals().build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 5_000)).await;
    let synced = world.upload(user, "b", pattern(2, 5_000)).await;
    let worker = world.start_worker();
    world.sync().await;
    // Both local copies are deleted from outside; the first object has no copy left.
    for lost in [&file, &synced] {
        let key = world.key(lost).await;
        world.direct.get("minio").unwrap().delete(&key).await.unwrap();
    }
    let key = world.key(&file).await;
    world.direct.get("s3").unwrap().delete(&key).await.unwrap();
    let forget = format!("DELETE FROM replicas WHERE store = 's3' AND object_id = '{}'", file.object_id);
    execute(&world.context.db, &forget).await.unwrap();
    execute(
        &world.context.db,
        "UPDATE files SET storage_location = 'minio', synced_at = NULL WHERE filename = 'a'",
    )
    .await
    .unwrap();

    drain(&world, "minio").await;
    waits_for(&world, "minio", "1 without a readable verified copy anywhere").await;

    assert_eq!(world.replica("minio", &file).await.unwrap().state, ReplicaState::Lost, "kept, as lost");
    eventually("the other one is evicted, because the cloud store has it", || async {
        world.replica("minio", &synced).await.is_none().then_some(())
    })
    .await;
    assert_eq!(hash(&world, &synced).await, pattern(2, 5_000).sha256());
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_interrupted_between_parts_leaves_nothing_behind() {
    let world = World::with("tiering.multipart_threshold_mib", 8)
        .set("tiering.part_size_mib", 8)
        .set("tiering.part_concurrency", 1)
        .set("tiering.shutdown_grace", "0s")
        .another_cloud("b2")
        .build()
        .await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 30 * 1024 * 1024)).await;
    let gate = world.cloud.gate(Match::method(Method::PUT).parameter("partNumber", "2"), Hold::Request);
    let first = world.start_worker();
    let run = world.request_run(RunScope::default()).await;
    gate.reached().await;
    first.stop().await;
    gate.open();
    assert_eq!(world.replica("s3", &file).await.unwrap().state, ReplicaState::Queued);

    drain(&world, "s3").await;
    let worker = world.start_worker();
    drained(&world, "s3").await;
    world.ended(run.id).await;

    world.sync().await;
    assert_eq!(states(&world).await, counted([("b2 present", 1), ("minio present", 1)]));
    worker.stop().await;
    assert_invariants(&world).await;
}
