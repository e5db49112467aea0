//! Pinned files: no local copy of any of their versions is evicted, in any way, however late the pin is set.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::ReplicaState;
use nightferry_core::file::details::FileView;
use nightferry_core::file::{change, trash};
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::evict;
use nightferry_tests::harness::database::execute;
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::{World, assert_invariants, pattern, states};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

use super::eviction::pass;

/// Synced files that are not evicted yet, in a world that evicts when the test requests it.
async fn synced(count: u64) -> (World, Vec<FileView>) {
    let world = World::with("tiering.free_local_after", "0s")
        .set("tiering.evict_grace", "1h")
        // Copies are evicted one after the other, so that there is one that can still be stopped.
        .set("tiering.concurrency", 1)
        .build()
        .await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..count {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await);
    }
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, count as i64);
    worker.stop().await;
    due(&world).await;
    (world, files)
}

/// Ends the grace period of all copies.
async fn due(world: &World) {
    let sql = "UPDATE replicas SET verified_at = verified_at - interval '2h', spare_since = spare_since - interval '2h'";
    execute(&world.context.db, sql).await.unwrap();
}

async fn pin(world: &World, file: &FileView, pinned: bool) {
    assert_eq!(
        change::pin(&world.context, file.row.id, pinned, &Origin::default()).await.unwrap().row.pinned,
        pinned
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_not_evicted_while_it_is_pinned_and_is_evicted_afterwards() {
    let (world, files) = synced(2).await;
    pin(&world, &files[0], true).await;

    assert_eq!(pass(&world).await, 1);
    assert_eq!(world.stored("minio", &files[0]).await, Some(pattern(0, 10_000).sha256()));

    pin(&world, &files[0], false).await;
    assert_eq!(pass(&world).await, 1);
    assert_eq!(world.stored("minio", &files[0]).await, None);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_is_kept_as_long_as_any_live_file_that_uses_it_is_pinned() {
    let (world, files) = synced(2).await;
    // The older version of the second file has the same object as the first file, as after copying a file.
    let share = format!(
        "INSERT INTO file_versions (file_id, number, object_id, created_by) VALUES ('{}', 7, '{}', '{}')",
        files[1].row.id, files[0].object_id, files[0].row.owner_id
    );
    execute(&world.context.db, &share).await.unwrap();
    pin(&world, &files[1], true).await;
    assert_eq!(pass(&world).await, 0, "one is pinned itself, the other through its object");

    trash::send(&world.context, files[1].row.owner_id, files[1].row.id, None, &Origin::default())
        .await
        .unwrap();

    assert_eq!(pass(&world).await, 2, "files in the trash do not keep copies");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_pinned_after_the_claim_is_not_evicted() {
    let (world, files) = synced(3).await;
    world.local.add(Fault::no_batch_deletions());
    let gate = world.local.gate(Match::method(Method::DELETE), Hold::Request);
    let stop = CancellationToken::new();
    let evicting = evict::pass(&world.context, WorkerId::new(), &stop);
    let meanwhile = async {
        gate.reached().await;
        for file in &files {
            pin(&world, file, true).await;
        }
        gate.open();
    };
    let evicted = futures_util::future::join(evicting, meanwhile).await.0.unwrap();

    assert_eq!(evicted, 1, "only the one whose deletion could not be stopped any more");
    let states = states(&world).await;
    assert_eq!((states["minio present"], states["s3 present"]), (2, 3));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_file_with_an_interrupted_eviction_is_kept() {
    let (world, files) = synced(1).await;
    let denied = world.local.add(Fault::status(500, "InternalError").on(Method::DELETE));
    assert_eq!(pass(&world).await, 0);
    denied.remove();
    assert_eq!(world.replica("minio", &files[0]).await.unwrap().state, ReplicaState::Evicting);
    pin(&world, &files[0], true).await;
    let over = "UPDATE replicas SET lease_until = now() - interval '1s' WHERE state = 'evicting'";
    execute(&world.context.db, over).await.unwrap();

    assert_eq!(pass(&world).await, 0);

    assert_eq!(world.replica("minio", &files[0]).await.unwrap().state, ReplicaState::Present);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_survives_a_new_version_and_holds_for_it_too() {
    let (world, files) = synced(1).await;
    pin(&world, &files[0], true).await;
    let again = world.upload(files[0].row.owner_id, "0", pattern(9, 10_000)).await;
    assert!(again.row.pinned);
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    worker.stop().await;
    due(&world).await;

    assert_eq!(pass(&world).await, 0);
    assert_eq!(world.stored("minio", &again).await, Some(pattern(9, 10_000).sha256()));
    assert_invariants(&world).await;
}
