//! Failures that affect all files: the run stops immediately with the reason, no file loses attempts, and the next run
//! finishes.

use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::file::details::FileView;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::{WorkerHandle, World, WorldBuilder, assert_invariants, pattern};
use reqwest::Method;

const MIB: u64 = 1024 * 1024;

async fn upload_some(world: &World, count: u64) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..count {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 1000 + seed)).await);
    }
    files
}

async fn assert_waiting(world: &World, file: &FileView) {
    let replica = world.replica("s3", file).await.unwrap();
    assert_eq!(
        (replica.state, replica.attempts, replica.run_id),
        (ReplicaState::Queued, 0, None),
        "it waits for the next run, with all its attempts"
    );
}

/// A run with these settings fails immediately with this reason; a run without them succeeds.
async fn fails_fast(settings: WorldBuilder, reason: &str) {
    let world = settings.build().await;
    let files = upload_some(&world, 12).await;
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Failed, 0, 0), "{run:?}");
    let error = run.error.unwrap();
    assert!(error.contains(reason), "{error:?} does not contain {reason:?}");
    assert!(world.failures(run.id).await.is_empty(), "no file is at fault");
    for file in &files {
        assert_waiting(&world, file).await;
    }
    worker.stop().await;

    let worker = WorkerHandle::start(world.plain_context());
    let next = world.sync().await;
    assert_eq!((next.status, next.files_done, next.error), (RunStatus::Succeeded, 12, None));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_access_key_fails_the_run_at_once() {
    fails_fast(World::with("stores.s3.access_key", "nobody"), "InvalidAccessKeyId").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_key_fails_the_run_at_once() {
    fails_fast(World::with("stores.s3.secret_key", "not-the-secret"), "SignatureDoesNotMatch").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_bucket_fails_the_run_at_once() {
    fails_fast(World::with("stores.s3.bucket", "there-is-no-such-bucket"), "NoSuchBucket").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_expire_during_a_run_stop_it_and_the_next_run_continues() {
    let world = World::with("tiering.concurrency", 1).build().await;
    let files = upload_some(&world, 12).await;
    let expired =
        world.cloud.add(Fault::status(403, "ExpiredToken").matching(Match::method(Method::PUT)).after(3));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Partial, 3, 0), "{run:?}");
    assert!(run.error.unwrap().contains("ExpiredToken"));
    assert!(expired.struck() <= 2, "the others were not attempted");
    let mut waiting = 0;
    for file in &files {
        if world.replica("s3", file).await.unwrap().state != ReplicaState::Present {
            assert_waiting(&world, file).await;
            waiting += 1;
        }
    }
    assert_eq!(waiting, 9);

    expired.remove();
    let next = world.sync().await;
    assert_eq!((next.status, next.files_done), (RunStatus::Succeeded, 9));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_expire_between_parts_keep_the_parts_that_were_sent() {
    let world = World::with("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .set("tiering.part_concurrency", 1)
        .build()
        .await;
    let user = world.user().await;
    let file = world.upload(user, "large", pattern(1, 40 * MIB)).await;
    let part = || Match::method(Method::PUT).has_parameter("partNumber");
    let expired = world.cloud.add(Fault::status(403, "ExpiredToken").matching(part()).after(2));
    let worker = world.start_worker();

    let run = world.sync().await;
    assert_eq!((run.status, run.files_done), (RunStatus::Failed, 0), "{run:?}");
    assert_waiting(&world, &file).await;
    let kept = texts(&world.context.db, "SELECT number FROM transfer_parts ORDER BY number").await;
    assert_eq!(kept, ["1", "2"]);

    expired.remove();
    world.cloud.forget_requests();
    let next = world.sync().await;
    assert_eq!((next.status, next.files_done), (RunStatus::Succeeded, 1));
    assert_eq!(world.cloud.count(&part()), 3, "only the parts that were missing");
    assert_eq!(world.stored("s3", &file).await, Some(pattern(1, 40 * MIB).sha256()));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_rejected_by_the_local_store_stop_the_run_too() {
    let world = World::new().await;
    let files = upload_some(&world, 3).await;
    let refused =
        world.local.add(Fault::status(403, "InvalidAccessKeyId").matching(Match::method(Method::GET)));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Failed, 0, 0), "{run:?}");
    assert!(run.error.unwrap().contains("store minio"), "it names the store");
    for file in &files {
        assert_waiting(&world, file).await;
    }
    refused.remove();
    assert_eq!(world.sync().await.files_done, 3);
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn multipart_copies_work_without_permission_to_list_uploads() {
    let world =
        World::with("tiering.multipart_threshold_mib", 16).set("tiering.part_size_mib", 8).build().await;
    let user = world.user().await;
    let file = world.upload(user, "large", pattern(1, 20 * MIB)).await;
    let listing = Match::method(Method::GET).has_parameter("uploads");
    let denied = world.cloud.add(Fault::status(403, "AccessDenied").matching(listing));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done, run.error), (RunStatus::Succeeded, 1, None));
    assert_eq!(denied.struck(), 1);
    assert_eq!(world.stored("s3", &file).await, Some(pattern(1, 20 * MIB).sha256()));
    worker.stop().await;
    assert_invariants(&world).await;
}
