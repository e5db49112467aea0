//! A full local store: uploads are rejected, existing files are synced and evicted, and rejected uploads leave nothing
//! behind.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::file::upload;
use nightferry_core::tiering::fetch::{self, Fetch};
use nightferry_core::tiering::reap;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::Fault;
use nightferry_tests::harness::world::request;
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;

/// As returned by `MinIO`.
fn disk_full() -> Fault {
    Fault::status(507, "XMinioStorageFull").on(Method::PUT)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_local_disk_rejects_uploads_until_a_run_makes_room() {
    let world = World::with("tiering.free_local_after", "0s").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 5000)).await;
    let full = world.local.add(disk_full());

    for size in [1000, 20 * 1024 * 1024] {
        let refused = upload::receive(&world.services.files, request(user, "b"), &mut pattern(2, size)).await;
        assert!(refused.is_err(), "{size} bytes");
    }
    assert_eq!(reap::pass(&world.context).await.unwrap().objects, 2, "the started upload is removed");
    let kept = texts(&world.context.db, "SELECT key FROM objects").await;
    assert_eq!(kept.len(), 1);
    let booked = texts(&world.context.db, "SELECT used_bytes FROM users WHERE used_bytes > 0").await;
    assert_eq!(booked, ["5000"], "rejected uploads do not count towards the usage");

    let worker = world.start_worker();
    let run = world.sync().await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1));
    eventually("space is freed", || async { world.replica("minio", &file).await.is_none().then_some(()) })
        .await;

    full.remove();
    world.upload(user, "b", pattern(2, 1000)).await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetch_to_a_full_local_disk_waits_for_room_and_the_file_stays_readable() {
    let world = World::with("tiering.free_local_after", "0s").set("tiering.max_attempts", 3).build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 5000)).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    eventually("it is evicted", || async { world.replica("minio", &file).await.is_none().then_some(()) })
        .await;
    let full = world.local.add(disk_full());

    assert_eq!(
        fetch::request(&world.context, file.row.id, None, &Origin::default()).await.unwrap(),
        Fetch::Queued
    );
    let waiting = eventually("the prefetch waits", || async {
        world.replica("minio", &file).await.filter(|replica| replica.last_error.is_some())
    })
    .await;
    assert!(waiting.last_error.unwrap().contains("XMinioStorageFull"));
    assert_eq!(waiting.attempts, 0, "the disk is to blame, not the file");
    assert!(world.context.stores.health().paused().contains_key("minio"));
    // Downloads the file, from the cloud store.
    worker.stop().await;
    assert_eq!(world.replica("minio", &file).await.unwrap().state, ReplicaState::Queued);
    assert_invariants(&world).await;

    full.remove();
    let worker = world.start_worker();
    eventually("it has returned", || async {
        let back = world.replica("minio", &file).await?;
        (back.state == ReplicaState::Present).then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(world.stored("minio", &file).await, Some(pattern(1, 5000).sha256()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_is_still_copied_from() {
    let world = World::new().await;
    let user = world.user().await;
    for seed in 0..3 {
        world.upload(user, &format!("{seed}"), pattern(seed, 5000)).await;
    }
    world.make_full("minio").await;
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 3));
    let health = world.context.stores.health();
    assert!(health.paused().contains_key("minio"), "no write was tried meanwhile");
    assert!(health.is_healthy("minio"), "it is neither down nor suspect");
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_go_to_another_local_store_while_the_first_one_is_full() {
    let world = WorldBuilder::default().another_local("nas").build().await;
    let user = world.user().await;
    world.make_full("minio").await;

    let file = world.upload(user, "a", pattern(1, 5000)).await;

    assert_eq!(file.row.storage_location, "nas");
    world.context.stores.health().end_pauses();
    assert_eq!(world.upload(user, "b", pattern(2, 5000)).await.row.storage_location, "minio");
}
