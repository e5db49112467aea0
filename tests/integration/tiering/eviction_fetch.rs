//! Prefetching to the local store: on request and after a read, promptly and without a run, byte for byte; the primary
//! location does not change, and the copy is evicted again by the rules.

use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use nightferry_core::checksum::{Sha256, Sha256Hasher};
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::ReplicaState;
use nightferry_core::file::details::{self, FileView};
use nightferry_core::file::{access, change, download, trash};
use nightferry_core::tiering::fetch::{self, Fetch};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern, states};
use reqwest::Method;

use super::eviction::{age, pass};

const MIB: u64 = 1024 * 1024;

/// Local copies are evicted when the test makes them due.
fn world() -> WorldBuilder {
    World::with("tiering.free_local_after", "2h").set("tiering.heartbeat", "300ms")
}

/// Files that are only in the cloud store.
async fn evicted(world: &World, sizes: &[u64]) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for (seed, size) in sizes.iter().enumerate() {
        files.push(world.upload(user, &format!("f{seed}"), pattern(seed as u64, *size)).await);
    }
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, sizes.len() as i64);
    worker.stop().await;
    age(world, "3h").await;
    assert_eq!(pass(world).await, sizes.len());
    world.cloud.forget_requests();
    files
}

async fn prefetch(world: &World, file: &FileView) -> Fetch {
    fetch::request(&world.context, file.row.id, None, &Origin::default()).await.unwrap()
}

async fn is_here(world: &World, file: &FileView) {
    eventually("the copy has been made again", || async {
        let replica = world.replica("minio", file).await?;
        (replica.state == ReplicaState::Present).then_some(())
    })
    .await;
}

async fn home(world: &World, file: &FileView) -> (String, Option<DateTime<Utc>>) {
    let now = details::find(&world.context, file.row.owner_id, file.row.id).await.unwrap();
    (now.row.storage_location, now.row.synced_at)
}

async fn read(world: &World, file: &FileView) -> Sha256 {
    let target = download::find(&world.context, file.row.owner_id, file.row.id, None).await.unwrap();
    let mut body = download::open(&world.services.files, &target, None).await.unwrap();
    let mut hasher = Sha256Hasher::new();
    while let Some(chunk) = body.next().await {
        hasher.update(&chunk.unwrap());
    }
    hasher.finish()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetched_file_is_identical_needs_no_run_and_keeps_its_primary_location() {
    let world =
        world().set("tiering.multipart_threshold_mib", 16).set("tiering.part_size_mib", 8).build().await;
    let sizes = [0, 10_000, 3 * MIB, 20 * MIB + 1];
    let files = evicted(&world, &sizes).await;
    let mut before = Vec::new();
    for file in &files {
        before.push(home(&world, file).await);
        assert_eq!(prefetch(&world, file).await, Fetch::Queued);
    }
    let worker = world.start_worker();

    for (seed, file) in files.iter().enumerate() {
        is_here(&world, file).await;
        assert_eq!(world.stored("minio", file).await, Some(pattern(seed as u64, sizes[seed]).sha256()));
        assert_eq!(
            home(&world, file).await,
            before[seed],
            "its primary location is the cloud store, as before"
        );
        assert_eq!(prefetch(&world, file).await, Fetch::Present);
    }
    worker.stop().await;
    assert_eq!(texts(&world.context.db, "SELECT 1 FROM runs").await.len(), 1, "no run was made for it");
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_starts_a_prefetch_within_a_second() {
    let world = world().build().await;
    let files = evicted(&world, &[10_000]).await;
    let worker = world.start_worker();
    eventually("the worker is idle", || async {
        (!texts(&world.context.db, "SELECT 1 FROM workers WHERE state = 'idle'").await.is_empty())
            .then_some(())
    })
    .await;

    prefetch(&world, &files[0]).await;
    is_here(&world, &files[0]).await;

    let took =
        "SELECT 1 FROM replicas WHERE store = 'minio' AND verified_at - queued_at < interval '2 seconds'";
    assert_eq!(texts(&world.context.db, took).await.len(), 1);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetch_does_not_wait_for_the_active_run() {
    let world = world().build().await;
    let files = evicted(&world, &[10_000]).await;
    let user = world.user().await;
    world.upload(user, "new", pattern(9, 10_000)).await;
    let gate = world.cloud.gate(Match::method(Method::PUT).key_contains("-new"), Hold::Request);
    let run = world.request_run(nightferry_core::db::runs::RunScope::default()).await;
    let worker = world.start_worker();
    gate.reached().await;

    prefetch(&world, &files[0]).await;
    is_here(&world, &files[0]).await;
    gate.open();

    let run = world.ended(run.id).await;
    assert_eq!((run.files_total, run.files_done), (1, 1), "the run counts its own copies only");
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_cache_on_read_a_file_read_from_the_cloud_is_prefetched_and_evicted_again() {
    let world = world().set("tiering.cache_on_read", true).build().await;
    let files = evicted(&world, &[10_000, 10_000]).await;
    let before = home(&world, &files[0]).await;
    let worker = world.start_worker();

    assert_eq!(read(&world, &files[0]).await, pattern(0, 10_000).sha256());
    assert!(world.replica("minio", &files[0]).await.is_none(), "the download itself queues nothing");
    access::flush(&world.services.files).await.unwrap();
    is_here(&world, &files[0]).await;
    worker.stop().await;

    assert_eq!(world.stored("minio", &files[0]).await, Some(pattern(0, 10_000).sha256()));
    assert_eq!(home(&world, &files[0]).await, before);
    assert!(world.replica("minio", &files[1]).await.is_none(), "that one was not read");
    // The time starts at the prefetch.
    age(&world, "1h").await;
    assert_eq!(pass(&world).await, 0);
    // And at the last read.
    read(&world, &files[0]).await;
    world.context.clock.advance(chrono::Duration::minutes(90));
    read(&world, &files[0]).await;
    access::flush(&world.services.files).await.unwrap();
    age(&world, "90m").await;
    assert_eq!(pass(&world).await, 0);
    age(&world, "3h").await;
    assert_eq!(pass(&world).await, 1);
    assert_eq!(states(&world).await.get("minio present"), None);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_cache_on_read_a_download_from_the_cloud_prefetches_nothing() {
    let world = world().build().await;
    let files = evicted(&world, &[10_000]).await;
    read(&world, &files[0]).await;
    access::flush(&world.services.files).await.unwrap();
    assert!(world.replica("minio", &files[0]).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_would_fill_the_local_store_are_not_cached() {
    // Within the grace period the pin alone evicts nothing.
    let world = world()
        .set("tiering.evict_grace", "1h")
        .set("tiering.cache_on_read", true)
        .set("tiering.local_capacity", "100kB")
        .build()
        .await;
    let files = evicted(&world, &[90_001, 90_000]).await;
    for file in &files {
        read(&world, file).await;
    }
    access::flush(&world.services.files).await.unwrap();
    assert!(world.replica("minio", &files[0]).await.is_none());
    assert_eq!(world.replica("minio", &files[1]).await.unwrap().state, ReplicaState::Queued);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_prefetches_read_each_file_once_from_the_cloud() {
    let world = world().set("tiering.batch_size", 3).build().await;
    let files = evicted(&world, &[1_000; 20]).await;
    for file in &files {
        prefetch(&world, file).await;
    }
    let workers = [world.start_worker(), world.start_worker(), world.start_worker()];
    for file in &files {
        is_here(&world, file).await;
    }
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(world.cloud.count(&Match::method(Method::GET).key_contains("-f")), 20);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetch_of_a_killed_worker_is_finished_by_the_next_one() {
    let world = world().build().await;
    let files = evicted(&world, &[3 * MIB]).await;
    let gate = world.local.gate(Match::method(Method::PUT).key_contains("-f0"), Hold::RequestBody(MIB));
    prefetch(&world, &files[0]).await;
    let first = world.start_worker_process().await;
    gate.reached().await;
    first.kill();
    gate.open();
    world.expire_leases().await;

    let second = world.start_worker();
    is_here(&world, &files[0]).await;
    second.stop().await;
    assert_eq!(world.stored("minio", &files[0]).await, Some(pattern(0, 3 * MIB).sha256()));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_prefetch_shows_its_reason_and_is_retried_on_request() {
    let world = world().set("tiering.max_attempts", 2).build().await;
    let files = evicted(&world, &[10_000]).await;
    let refused = world.local.add(Fault::status(400, "InvalidRequest").on(Method::PUT));
    prefetch(&world, &files[0]).await;
    let worker = world.start_worker();
    eventually("it has failed", || async {
        let replica = world.replica("minio", &files[0]).await?;
        (replica.state == ReplicaState::Failed && replica.last_error.is_some()).then_some(())
    })
    .await;
    refused.remove();

    assert_eq!(prefetch(&world, &files[0]).await, Fetch::Queued);
    is_here(&world, &files[0]).await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_purged_while_it_is_prefetched_leaves_nothing_behind() {
    let world = world().build().await;
    let files = evicted(&world, &[3 * MIB, 10_000]).await;
    let gate = world.local.gate(Match::method(Method::PUT).key_contains("-f0"), Hold::RequestBody(MIB));
    prefetch(&world, &files[0]).await;
    let worker = world.start_worker();
    gate.reached().await;
    for file in &files {
        prefetch(&world, file).await;
        trash::purge(&world.context, file.row.owner_id, file.row.id, &Origin::default()).await.unwrap();
    }
    gate.open();
    eventually("everything is deleted", || async {
        nightferry_core::tiering::reap::pass(&world.context).await.unwrap();
        states(&world).await.is_empty().then_some(())
    })
    .await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefetched_pinned_file_is_kept() {
    let world = world().build().await;
    let files = evicted(&world, &[10_000]).await;
    prefetch(&world, &files[0]).await;
    change::pin(&world.context, files[0].row.id, true, &Origin::default()).await.unwrap();
    let worker = world.start_worker();
    is_here(&world, &files[0]).await;
    worker.stop().await;
    age(&world, "5h").await;
    assert_eq!(pass(&world).await, 0);
    change::pin(&world.context, files[0].row.id, false, &Origin::default()).await.unwrap();
    assert_eq!(pass(&world).await, 1);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_prefetches_are_distinguished() {
    let world = world().build().await;
    let files = evicted(&world, &[10_000]).await;
    let user = files[0].row.owner_id;
    let stays = world.upload(user, "here", pattern(7, 10)).await;
    assert_eq!(prefetch(&world, &stays).await, Fetch::Present);
    execute(&world.context.db, "UPDATE replicas SET state = 'lost' WHERE store = 's3'").await.unwrap();
    assert_eq!(prefetch(&world, &files[0]).await, Fetch::NoSource);
    trash::send(&world.context, user, files[0].row.id, None, &Origin::default()).await.unwrap();
    assert!(fetch::request(&world.context, files[0].row.id, None, &Origin::default()).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_between_a_deletion_and_the_removal_of_its_row_is_replaced() {
    let world = World::with("tiering.free_local_after", "0s").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 10_000)).await;
    let gate = world.local.gate(Match::method(Method::DELETE), Hold::Answer);
    let run = world.request_run(nightferry_core::db::runs::RunScope::default()).await;
    let first = world.start_worker_process().await;
    world.ended(run.id).await;
    gate.reached().await;
    first.kill();
    gate.open();
    assert_eq!(world.replica("minio", &file).await.unwrap().state, ReplicaState::Evicting);
    assert_eq!(world.stored("minio", &file).await, None, "deleted, but its row remains");
    assert_eq!(read(&world, &file).await, pattern(1, 10_000).sha256(), "read from the cloud store meanwhile");

    world.expire_leases().await;
    pass(&world).await;
    assert!(world.replica("minio", &file).await.is_none(), "the next one deletes the row");
    assert_invariants(&world).await;
}
