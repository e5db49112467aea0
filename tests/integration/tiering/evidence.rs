//! A copy is deleted only after a HEAD request found another copy intact: the database row of that copy is not enough,
//! because objects can vanish, servers can stop, and buckets can be replaced.

use nightferry_core::context::Context;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::file::details::FileView;
use nightferry_core::ids::WorkerId;
use nightferry_core::store::{Body, PutOptions};
use nightferry_core::tiering::{evict, reconcile};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::world::WorkerHandle;
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

const SIZE: u64 = 10_000;

/// Files that are in both stores, before any eviction.
async fn synced(world: &World, count: u64) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..count {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, SIZE)).await);
    }
    let worker = WorkerHandle::start(world.context_with(&[("tiering.evict_grace", "1h")]));
    assert_eq!(world.sync().await.status, RunStatus::Succeeded);
    worker.stop().await;
    files
}

fn evicts_at_once() -> WorldBuilder {
    World::with("tiering.free_local_after", "0s")
}

async fn pass(context: &Context) -> usize {
    evict::pass(context, WorkerId::new(), &CancellationToken::new()).await.unwrap()
}

/// Deletes the object of a file from a store, bypassing Nightferry.
async fn vanish(world: &World, store: &str, file: &FileView) {
    world.direct.get(store).unwrap().delete(&world.key(file).await).await.unwrap();
}

/// Writes this content under the key of a file, bypassing Nightferry.
async fn overwrite(world: &World, store: &str, file: &FileView, bytes: Vec<u8>) {
    let store = world.direct.get(store).unwrap();
    store.put(&world.key(file).await, Body::Bytes(bytes.into()), &PutOptions::default()).await.unwrap();
}

async fn is_whole_in(world: &World, store: &str, file: &FileView, seed: u64) -> bool {
    world.stored(store, file).await == Some(pattern(seed, SIZE).sha256())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_copy_stays_when_the_cloud_object_has_vanished_and_the_others_are_evicted() {
    let world = evicts_at_once().build().await;
    let files = synced(&world, 3).await;
    vanish(&world, "s3", &files[0]).await;

    assert_eq!(pass(&world.context).await, 2);

    assert!(is_whole_in(&world, "minio", &files[0], 0).await);
    assert_eq!(world.replica("minio", &files[0]).await.unwrap().state, ReplicaState::Present);
    let missing = world.replica("s3", &files[0]).await.unwrap();
    assert_eq!(missing.state, ReplicaState::Lost, "the missing copy is marked as lost");
    assert!(missing.last_error.unwrap().contains("s3"), "and why");
    let location = texts(&world.context.db, "SELECT storage_location FROM files WHERE filename = '0'").await;
    assert_eq!(location, ["minio"]);

    // The next run makes the copy again, and only then is the local copy evicted.
    let worker = world.start_worker();
    assert_eq!(world.sync().await.status, RunStatus::Succeeded);
    eventually("the file is copied again and evicted", || async {
        (world.replica("minio", &files[0]).await.is_none()).then_some(())
    })
    .await;
    worker.stop().await;
    assert!(is_whole_in(&world, "s3", &files[0], 0).await);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_copy_stays_when_the_cloud_object_holds_other_bytes() {
    let world = evicts_at_once().build().await;
    let files = synced(&world, 2).await;
    overwrite(&world, "s3", &files[0], vec![0; usize::try_from(SIZE).unwrap()]).await;
    overwrite(&world, "s3", &files[1], vec![0; 3]).await;

    assert_eq!(pass(&world.context).await, 0);

    for (seed, file) in files.iter().enumerate() {
        assert!(is_whole_in(&world, "minio", file, seed as u64).await);
        assert_eq!(world.replica("s3", file).await.unwrap().state, ReplicaState::Lost);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_copies_stay_while_the_cloud_server_is_down_and_are_evicted_when_it_is_back() {
    let world = evicts_at_once().build().await;
    let files = synced(&world, 3).await;
    world.cloud.down().await;

    assert_eq!(pass(&world.context).await, 0);

    for (seed, file) in files.iter().enumerate() {
        assert!(is_whole_in(&world, "minio", file, seed as u64).await);
        let state = world.replica("minio", file).await.unwrap().state;
        assert_eq!(state, ReplicaState::Present, "it can be read during the outage");
        assert_eq!(
            world.replica("s3", file).await.unwrap().state,
            ReplicaState::Present,
            "there is no other evidence"
        );
    }
    assert_eq!(world.local.count(&Match::deletions()), 0);
    world.cloud.up().await;
    assert_eq!(pass(&world.context_with(&[])).await, 3);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_copies_stay_when_the_cloud_bucket_is_exchanged_in_the_settings() {
    let world = evicts_at_once().build().await;
    let files = synced(&world, 3).await;
    let other = world.context_with(&[("stores.s3.bucket", "nf-an-empty-bucket")]);
    other.stores.get("s3").unwrap().ensure_bucket().await.unwrap();
    let missing = world.context_with(&[("stores.s3.bucket", "nf-there-is-no-such-bucket")]);

    assert_eq!(pass(&missing).await, 0);
    assert_eq!(pass(&other).await, 0);

    for (seed, file) in files.iter().enumerate() {
        assert!(is_whole_in(&world, "minio", file, seed as u64).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_copy_is_evidence_only_while_it_is_the_one_that_was_verified() {
    let world = evicts_at_once()
        .set("stores.s3.encryption", true)
        .set("stores.s3.encryption_keys", "a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=")
        .build()
        .await;
    let files = synced(&world, 2).await;
    let size = world.direct.get("s3").unwrap().head(&world.key(&files[0]).await).await.unwrap().unwrap().size;
    overwrite(&world, "s3", &files[0], vec![7; usize::try_from(size).unwrap()]).await;
    world.cloud.forget_requests();

    assert_eq!(pass(&world.context).await, 1);

    assert!(is_whole_in(&world, "minio", &files[0], 0).await);
    assert!(world.replica("minio", &files[1]).await.is_none());
    let reads = world.cloud.requests().into_iter().filter(|request| request.method == Method::GET);
    assert!(reads.count() <= 2, "the ETag verifies the unchanged copy; only the other copy is read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_keeps_what_the_store_it_moved_to_does_not_have_any_more() {
    let world = WorldBuilder::default().build().await;
    let files = synced(&world, 3).await;
    vanish(&world, "s3", &files[1]).await;
    let origin = nightferry_core::db::audit::Origin::default();
    nightferry_core::tiering::relocate::drain::begin(&world.context, "minio", None, &origin).await.unwrap();

    let worker = world.start_worker();
    eventually("the store is empty", || async {
        let view = nightferry_core::tiering::relocate::drain::look(&world.context, "minio").await.unwrap();
        view.filter(nightferry_core::tiering::relocate::drain::Draining::is_finished)
    })
    .await;
    worker.stop().await;

    for (seed, file) in files.iter().enumerate() {
        assert!(is_whole_in(&world, "s3", file, seed as u64).await, "{seed}");
    }
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_keeps_an_object_without_a_row_when_the_copy_that_a_row_claims_is_not_there() {
    let world = WorldBuilder::default().build().await;
    let files = synced(&world, 2).await;
    // As after restoring a backup: according to the rows, the files are only in the local store, which has lost one.
    execute(&world.context.db, "DELETE FROM replicas WHERE store = 's3'").await.unwrap();
    vanish(&world, "minio", &files[0]).await;

    let options = reconcile::Options { apply: true, safety_age: std::time::Duration::ZERO };
    let store = world.context.stores.get("s3").unwrap();
    reconcile::pass(&world.context, store, options, |_| {}, &CancellationToken::new()).await.unwrap();

    assert!(is_whole_in(&world, "s3", &files[0], 0).await, "the last copy");
    assert_eq!(
        world.replica("s3", &files[0]).await.unwrap().state,
        ReplicaState::Present,
        "verified and recorded"
    );
    assert_eq!(world.replica("minio", &files[0]).await.unwrap().state, ReplicaState::Lost);
    assert_eq!(
        world.stored("s3", &files[1]).await,
        None,
        "a surplus copy of an object that is intact elsewhere is deleted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_store_error_does_not_keep_other_files_from_being_evicted_later() {
    let world = evicts_at_once().build().await;
    let files = synced(&world, 2).await;
    let refused = world.cloud.add(
        Fault::status(403, "AccessDenied").on(Method::HEAD).key_contains(world.key(&files[0]).await.as_str()),
    );

    pass(&world.context).await;
    refused.remove();

    eventually("both are evicted", || async {
        pass(&world.context).await;
        let left = texts(&world.context.db, "SELECT 1 FROM replicas WHERE store = 'minio'").await;
        left.is_empty().then_some(())
    })
    .await;
    assert_invariants(&world).await;
}
