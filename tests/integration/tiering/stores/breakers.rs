//! A store that is down pauses only the copies that need it.

use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::runs::RunScope;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::Fault;
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};

use super::hash;

#[tokio::test(flavor = "multi_thread")]
async fn a_run_continues_in_one_cloud_store_while_the_other_is_down() {
    let world = World::with("tiering.cloud_replicas", 2)
        .set("tiering.concurrency", 4)
        .set("tiering.max_attempts", 2)
        .another_cloud("b2")
        .build()
        .await;
    let user = world.user().await;
    for seed in 0..40 {
        world.upload(user, &format!("{seed}"), pattern(seed, 5_000)).await;
    }
    let outage = world.cloud.add(Fault::status(503, "ServiceUnavailable"));
    let worker = world.start_worker();
    let run = world.request_run(RunScope::default()).await;

    eventually("everything is in the other cloud store", || async {
        let there =
            texts(&world.context.db, "SELECT 1 FROM replicas WHERE store = 'b2' AND state = 'present'").await;
        (there.len() == 40).then_some(())
    })
    .await;
    assert!(outage.struck() > 0);
    let attempts = texts(&world.context.db, "SELECT max(attempts) FROM replicas WHERE store = 's3'").await;
    assert_eq!(attempts, ["0"], "no attempt is counted for the outage");
    outage.remove();

    let run = world.ended(run.id).await;
    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, 80, 0));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_down_is_left_out_where_another_one_has_the_bytes() {
    let world = WorldBuilder::default()
        .set("tiering.local_replicas", 2)
        .set("tiering.max_attempts", 2)
        .another_local("nas")
        .build()
        .await;
    let user = world.user().await;
    let worker = world.start_worker();
    let mut files = Vec::new();
    for seed in 0..6 {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 5_000)).await);
    }
    for file in &files {
        eventually("it is in both", || async {
            (world.replica("nas", file).await?.state == ReplicaState::Present).then_some(())
        })
        .await;
    }
    world.local.down().await;

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, 6, 0), "{run:?}");
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(hash(&world, file).await, pattern(seed as u64, 5_000).sha256());
    }
    world.local.up().await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn prefetches_continue_while_a_cloud_store_they_do_not_need_is_down() {
    let world = WorldBuilder::default().another_local("nas").another_cloud("b2").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 5_000)).await;
    world.cloud.down().await;
    let worker = world.start_worker();
    let run = world.request_run(RunScope::default()).await;
    eventually("the cloud store is detected as down", || async {
        world.replica("s3", &file).await.and_then(|replica| replica.last_error)
    })
    .await;

    // Draining the local store does not need the cloud store.
    super::drain(&world, "minio").await;
    super::drained(&world, "minio").await;

    world.cloud.up().await;
    assert_eq!(world.ended(run.id).await.files_done, 1);
    worker.stop().await;
    assert_invariants(&world).await;
}
