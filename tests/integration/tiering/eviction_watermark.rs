//! Watermarks: above the high watermark the least recently used copies are evicted down to the low one.

use std::collections::BTreeSet;

use nightferry_core::db::audit::Origin;
use nightferry_core::file::change;
use nightferry_core::file::details::FileView;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::watermark;
use nightferry_tests::harness::database::execute;
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use tokio_util::sync::CancellationToken;

const SIZE: u64 = 10_000;

/// Capacity for ten files; eviction reduces more than nine to five.
fn small_store() -> WorldBuilder {
    World::with("tiering.local_capacity", "100kB")
        .set("tiering.high_watermark", 90)
        .set("tiering.low_watermark", 50)
        .set("tiering.evict_grace", "1h")
}

/// Uploads files; the last one is the least recently used.
async fn upload(world: &World, count: u64) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..count {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, SIZE)).await);
    }
    for (index, file) in files.iter().enumerate() {
        let long_ago = format!(
            "UPDATE replicas SET last_used_at = now() - interval '{} hours' WHERE object_id = '{}'",
            index + 1,
            file.object_id
        );
        execute(&world.context.db, &long_ago).await.unwrap();
    }
    files
}

/// Ends the grace period of all copies at once.
async fn end_grace(world: &World) {
    let due = "UPDATE replicas SET verified_at = verified_at - interval '2h'";
    execute(&world.context.db, due).await.unwrap();
}

async fn cross(world: &World) {
    let worker = world.start_worker();
    world.sync().await;
    worker.stop().await;
    end_grace(world).await;
}

async fn pass(world: &World) -> usize {
    watermark::pass(&world.context, WorkerId::new(), &CancellationToken::new()).await.unwrap()
}

/// The files that still have a local copy.
async fn here(world: &World, files: &[FileView]) -> BTreeSet<usize> {
    let mut here = BTreeSet::new();
    for (index, file) in files.iter().enumerate() {
        if world.stored("minio", file).await.is_some() {
            here.insert(index);
        }
    }
    here
}

#[tokio::test(flavor = "multi_thread")]
async fn above_the_high_watermark_the_least_recently_used_copies_are_evicted() {
    let world = small_store().build().await;
    let files = upload(&world, 10).await;
    cross(&world).await;

    assert_eq!(pass(&world).await, 5);

    assert_eq!(here(&world, &files).await, (0..5).collect());
    assert_eq!(pass(&world).await, 0, "the store is below the high watermark now");
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_high_watermark_nothing_is_evicted() {
    let world = small_store().build().await;
    let files = upload(&world, 9).await;
    cross(&world).await;

    assert_eq!(pass(&world).await, 0);
    assert_eq!(here(&world, &files).await.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn unsynced_and_pinned_files_are_kept_however_full_the_store_is() {
    let world = small_store().build().await;
    let files = upload(&world, 10).await;
    assert_eq!(pass(&world).await, 0, "nothing has been synced");
    cross(&world).await;
    for file in &files[3..] {
        change::pin(&world.context, file.row.id, true, &Origin::default()).await.unwrap();
    }

    assert_eq!(pass(&world).await, 3);

    assert_eq!(here(&world, &files).await, (3..10).collect());
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_see_a_full_store_concurrently_do_not_evict_twice_as_much() {
    let world = small_store().build().await;
    let files = upload(&world, 12).await;
    cross(&world).await;

    let passes = (0..6).map(|_| pass(&world));
    let evicted: usize = futures_util::future::join_all(passes).await.into_iter().sum();

    assert_eq!(evicted, 7);
    assert_eq!(here(&world, &files).await, (0..5).collect());
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_evicts_by_the_watermark_on_its_own() {
    let world = small_store().build().await;
    let files = upload(&world, 10).await;
    let worker = world.start_worker();
    // A pass during the run would select among the files copied so far: the grace period keeps all of them until all
    // are copied.
    world.sync().await;
    assert_eq!(here(&world, &files).await.len(), 10);
    end_grace(&world).await;

    // The worker evicts after each run, also after a run without copies.
    world.sync().await;

    eventually("the store is at its low watermark", || async {
        (here(&world, &files).await == (0..5).collect()).then_some(())
    })
    .await;
    worker.stop().await;
    assert_invariants(&world).await;
}
