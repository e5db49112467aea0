//! Encryption keys over time: enabled and disabled, rotated, missing. Existing copies stay readable, and a missing key
//! marks nothing as lost.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::encryption::encrypted_size;
use nightferry_core::file::details::FileView;
use nightferry_core::ids::UserId;
use nightferry_core::store::{Body, PutOptions};
use nightferry_core::tiering::fetch::{self, Fetch};
use nightferry_core::tiering::reconcile;
use nightferry_core::tiering::scrub::{self, Options, Summary};
use nightferry_tests::harness::database::execute;
use nightferry_tests::harness::{World, assert_invariants, eventually, pattern};
use tokio_util::sync::CancellationToken;

const A: &str = "a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=";
const B: &str = "b:YmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmJiYmI=";
const KEYS: &str = "stores.s3.encryption_keys";
const SIZE: u64 = 100_000;

async fn synced(world: &World, user: UserId, seed: u64) -> FileView {
    let file = world.upload(user, &format!("f{seed}"), pattern(seed, SIZE)).await;
    let worker = world.start_worker();
    let run = world.sync().await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1), "{run:?}");
    worker.stop().await;
    file
}

async fn key_of(world: &World, file: &FileView) -> Option<String> {
    world.replica("s3", file).await.unwrap().key_id
}

async fn scrubbed(world: &World) -> Summary {
    let stores = vec![world.context.stores.get("s3").unwrap().clone()];
    let min_age = std::time::Duration::ZERO;
    let options = Options { stores, rate: None, bytes: None, time: None, min_age };
    scrub::pass(&world.context, &options, |_| (), &CancellationToken::new()).await.unwrap().unwrap()
}

async fn reconciled(world: &World) -> u64 {
    let store = world.context.stores.get("s3").unwrap();
    let safety_age = std::time::Duration::ZERO;
    let options = reconcile::Options { apply: true, safety_age };
    let stop = CancellationToken::new();
    reconcile::pass(&world.context, store, options, |_| (), &stop).await.unwrap().unwrap().found()
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_copies_keep_their_form_when_encryption_is_switched() {
    let mut world = World::new().await;
    let user = world.user().await;
    let plain = synced(&world, user, 1).await;
    world.reconfigure(&[("stores.s3.encryption", "true"), (KEYS, A)]);
    let encrypted = synced(&world, user, 2).await;
    world.reconfigure(&[("stores.s3.encryption", "false")]);
    let plain_again = synced(&world, user, 3).await;

    assert_eq!(key_of(&world, &plain).await, None);
    assert_eq!(key_of(&world, &encrypted).await.as_deref(), Some("a"));
    assert_eq!(key_of(&world, &plain_again).await, None);
    assert_eq!(reconciled(&world).await, 0, "the sizes are those of the stored objects");
    assert_eq!(scrubbed(&world).await.right, 3);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_encrypts_new_copies_and_the_old_key_reads_existing_ones() {
    let mut world = World::with("stores.s3.encryption", true).set(KEYS, A).build().await;
    let user = world.user().await;
    let old = synced(&world, user, 1).await;
    world.reconfigure(&[(KEYS, &format!("{B},{A}"))]);
    let new = synced(&world, user, 2).await;

    assert_eq!(key_of(&world, &old).await.as_deref(), Some("a"));
    assert_eq!(key_of(&world, &new).await.as_deref(), Some("b"));
    assert_eq!(scrubbed(&world).await.right, 2);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_is_reported_and_marks_nothing_as_lost() {
    let mut world = World::with("stores.s3.encryption", true).set(KEYS, A).build().await;
    let user = world.user().await;
    let file = synced(&world, user, 1).await;
    // Another key, another key with the same id, and no key.
    let twin = B.replacen("b:", "a:", 1);
    for (on, keys, words) in [
        ("true", B, "which is not configured"),
        ("true", twin.as_str(), "is not the one that it was encrypted with"),
        ("false", "", "which is not configured"),
    ] {
        world.reconfigure(&[("stores.s3.encryption", on), (KEYS, keys)]);
        let summary = scrubbed(&world).await;
        assert_eq!((summary.unread, summary.right, summary.found()), (1, 0, 0), "{keys}");
        assert_eq!(world.replica("s3", &file).await.unwrap().state, ReplicaState::Present);

        // A local copy is requested, and cannot be made.
        execute(&world.context.db, "DELETE FROM replicas WHERE store = 'minio'").await.unwrap();
        world.direct.get("minio").unwrap().delete(&world.key(&file).await).await.unwrap();
        assert_eq!(
            fetch::request(&world.context, file.row.id, None, &Origin::default()).await.unwrap(),
            Fetch::Queued
        );
        let worker = world.start_worker();
        let error = eventually("the copy has failed", || async {
            let row = world.replica("minio", &file).await?;
            (row.state == ReplicaState::Failed).then(|| row.last_error.unwrap())
        })
        .await;
        worker.stop().await;
        assert!(error.contains("\"a\"") && error.contains(words), "{error}");
        assert_eq!(world.replica("s3", &file).await.unwrap().state, ReplicaState::Present);
    }
    world.reconfigure(&[(KEYS, &format!("{B},{A}")), ("stores.s3.encryption", "true")]);
    assert_eq!(scrubbed(&world).await.right, 1, "with its key it is intact");
    assert_eq!(
        fetch::request(&world.context, file.row.id, None, &Origin::default()).await.unwrap(),
        Fetch::Queued
    );
    let worker = world.start_worker();
    eventually("the local copy has been made again", || async {
        (world.replica("minio", &file).await?.state == ReplicaState::Present).then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(world.stored("minio", &file).await, Some(pattern(1, SIZE).sha256()));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_copy_of_another_size_is_found_by_reconciling() {
    let world = World::with("stores.s3.encryption", true).set(KEYS, A).build().await;
    let user = world.user().await;
    let (good, cut) = (synced(&world, user, 1).await, synced(&world, user, 2).await);
    assert_eq!(reconciled(&world).await, 0);
    let bytes = vec![7; usize::try_from(encrypted_size(SIZE)).unwrap() - 16];
    let store = world.direct.get("s3").unwrap();
    store.put(&world.key(&cut).await, Body::Bytes(bytes.into()), &PutOptions::default()).await.unwrap();

    assert_eq!(reconciled(&world).await, 1);
    let (good, cut) = (world.replica("s3", &good).await.unwrap(), world.replica("s3", &cut).await.unwrap());
    assert_eq!(good.state, ReplicaState::Present);
    assert_ne!(cut.state, ReplicaState::Present);
}
