//! A verification that is too old is renewed before a copy is deleted because of it: by a checksum that the store
//! returns, otherwise by reading the other copy.

use nightferry_core::context::Context;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::file::details::FileView;
use nightferry_core::ids::WorkerId;
use nightferry_core::object::canary;
use nightferry_core::store::{Body, PutOptions};
use nightferry_core::tiering::evict;
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::memory_s3::Writes;
use nightferry_tests::harness::{WorkerHandle, World, WorldBuilder, assert_invariants, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

const SIZE: u64 = 10_000;

fn evicts_at_once() -> WorldBuilder {
    World::with("tiering.free_local_after", "0s")
}

/// The cloud store returns no checksum of encrypted objects that could be compared.
fn encrypted() -> WorldBuilder {
    evicts_at_once()
        .set("stores.s3.encryption", true)
        .set("stores.s3.encryption_keys", "a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=")
}

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
    world.cloud.forget_requests();
    files
}

/// As if the cloud copies had been verified 40 days ago.
async fn age(world: &World) {
    let sql = "UPDATE replicas SET verified_at = verified_at - interval '40 days' WHERE store = 's3'";
    execute(&world.context.db, sql).await.unwrap();
}

async fn pass(context: &Context) -> usize {
    evict::pass(context, WorkerId::new(), &CancellationToken::new()).await.unwrap()
}

/// The number of reads of files from the cloud store.
fn reads(world: &World) -> usize {
    world.cloud.count(&Match::method(Method::GET).key_contains("user-"))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_proof_is_read_back_and_a_damaged_other_copy_keeps_the_local_one() {
    let world = encrypted().set("database.pool_size", 1).build().await;
    let files = synced(&world, 3).await;
    age(&world).await;
    // The content is damaged; what HEAD returns is not.
    let damaged = world.key(&files[0]).await;
    let damage = world.cloud.add(Fault::flip_response_byte(0).on(Method::GET).key_contains(damaged.as_str()));

    assert_eq!(pass(&world.context).await, 2);

    assert_eq!(world.stored("minio", &files[0]).await, Some(pattern(0, SIZE).sha256()));
    assert_eq!(world.replica("minio", &files[0]).await.unwrap().state, ReplicaState::Present);
    assert_eq!(world.replica("s3", &files[0]).await.unwrap().state, ReplicaState::Lost, "what was found");
    assert_eq!(damage.struck(), 2, "one wrong reading is not enough");
    assert_eq!(reads(&world), 4, "each of the others is read once");
    let renewed = "SELECT 1 FROM replicas WHERE store = 's3' AND state = 'present' \
                   AND verified_at > now() - interval '1 day'";
    assert_eq!(texts(&world.context.db, renewed).await.len(), 2, "the verification is recorded");
    damage.remove();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_be_read_is_no_evidence_until_it_can() {
    let world = encrypted().build().await;
    let files = synced(&world, 1).await;
    age(&world).await;
    let denied = world.cloud.add(Fault::status(403, "AccessDenied").on(Method::GET).key_contains("user-"));

    assert_eq!(pass(&world.context).await, 0);

    assert!(denied.struck() > 0, "it was tried");
    assert_eq!(world.local.count(&Match::deletions()), 0);
    for store in ["minio", "s3"] {
        assert_eq!(world.replica(store, &files[0]).await.unwrap().state, ReplicaState::Present, "{store}");
    }
    denied.remove();
    assert_eq!(pass(&world.context).await, 1);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recent_proof_costs_no_reading_and_neither_does_an_old_one_if_its_age_does_not_matter() {
    let world = encrypted().build().await;
    synced(&world, 1).await;
    assert_eq!(pass(&world.context).await, 1, "recent");
    let other = encrypted().set("tiering.evidence_max_age", "never").build().await;
    synced(&other, 1).await;
    age(&other).await;
    assert_eq!(pass(&other.context).await, 1, "old");

    assert_eq!((reads(&world), reads(&other)), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checksum_from_the_store_renews_an_old_proof_without_reading() {
    let world = evicts_at_once().in_memory().build().await;
    synced(&world, 3).await;
    age(&world).await;

    assert_eq!(pass(&world.context).await, 3);

    assert_eq!(reads(&world), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_returns_false_checksums_is_read_whatever_the_age_of_the_proof() {
    let world = evicts_at_once().in_memory().build().await;
    let files = synced(&world, 2).await;
    let [_, server] = world.memory.as_ref().unwrap();
    // The content is replaced; what HEAD returns is not.
    server.set_writes(Writes::FlippedAndSworn);
    let options = PutOptions { sha256: Some(pattern(0, SIZE).sha256()), ..PutOptions::default() };
    let body = Body::Bytes(pattern(0, SIZE).bytes());
    let key = world.key(&files[0]).await;
    world.direct.get("s3").unwrap().put(&key, body, &options).await.unwrap();
    assert!(canary::check(world.context.stores.get("s3").unwrap()).await.heads_lie());

    assert_eq!(pass(&world.context).await, 1);

    assert_eq!(world.stored("minio", &files[0]).await, Some(pattern(0, SIZE).sha256()));
    assert_eq!(world.replica("s3", &files[0]).await.unwrap().state, ReplicaState::Lost);
    assert_eq!(reads(&world), 3, "twice the one that is wrong");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_eviction_with_an_old_proof_is_completed_after_reading() {
    let world = encrypted().build().await;
    synced(&world, 2).await;
    age(&world).await;
    let refused = world.local.add(Fault::status(500, "InternalError").matching(Match::deletions()));
    assert_eq!(pass(&world.context).await, 0);
    refused.remove();
    world.expire_leases().await;
    age(&world).await;
    world.cloud.forget_requests();

    assert_eq!(pass(&world.context).await, 2);

    assert_eq!(reads(&world), 2);
    assert_invariants(&world).await;
}
