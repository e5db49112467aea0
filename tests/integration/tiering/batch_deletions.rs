//! Copies are deleted with few requests where the store takes several keys at once. A copy is gone only if the response
//! says so of its key; whatever else happens to the request, nothing is lost and the rest is deleted later.

use std::time::Duration;

use bytes::Bytes;
use chrono::TimeDelta;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::file::change;
use nightferry_core::file::details::FileView;
use nightferry_core::ids::WorkerId;
use nightferry_core::store::ObjectKey;
use nightferry_core::tiering::evict;
use nightferry_core::tiering::reconcile::{self, Event, Kind, Options};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::memory_s3::Deletion;
use nightferry_tests::harness::{WorkerHandle, World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::eviction::kill_pass_at;

fn world() -> WorldBuilder {
    World::with("tiering.free_local_after", "0s").set("tiering.lease", "60s")
}

/// Files that are in both stores, before any eviction.
async fn synced(world: &World, count: u64) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..count {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 1_000)).await);
    }
    let worker = WorkerHandle::start(world.context_with(&[("tiering.evict_grace", "1h")]));
    assert_eq!(world.sync().await.status, RunStatus::Succeeded);
    worker.stop().await;
    world.local.forget_requests();
    world.cloud.forget_requests();
    files
}

async fn pass(world: &World) -> usize {
    evict::pass(&world.context, WorkerId::new(), &CancellationToken::new()).await.unwrap()
}

/// Keys of local copies whose row says that they are being deleted.
async fn marked(world: &World) -> usize {
    texts(&world.context.db, "SELECT 1 FROM replicas WHERE store = 'minio' AND state = 'evicting'")
        .await
        .len()
}

fn single_deletions() -> Match {
    Match::method(Method::DELETE).key_contains("user-")
}

/// A copy that the store did not delete keeps its mark and is deleted later; the others are gone.
async fn leaves_just_that_copy(deletion: Deletion) {
    let world = world().in_memory().build().await;
    let files = synced(&world, 10).await;
    let [local, _] = world.memory.as_ref().unwrap();
    let key = world.key(&files[3]).await;
    local.set_deletion(key.as_str(), deletion);

    assert_eq!(pass(&world).await, 9);

    assert_eq!(world.local.count(&Match::batch_deletions()), 1);
    assert_eq!(marked(&world).await, 1);
    assert_eq!(world.replica("minio", &files[3]).await.unwrap().state, ReplicaState::Evicting);
    assert_eq!(world.stored("minio", &files[3]).await, Some(pattern(3, 1_000).sha256()));
    local.set_deletion(key.as_str(), Deletion::Done);
    world.expire_leases().await;
    assert_eq!(pass(&world).await, 1);
    assert_eq!(world.stored("minio", &files[3]).await, None);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_the_store_refuses_to_delete_leaves_just_that_copy() {
    leaves_just_that_copy(Deletion::Refused).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_in_the_response_does_not_count_as_deleted() {
    leaves_just_that_copy(Deletion::Unmentioned).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_without_batches_is_asked_once_and_loses_nothing() {
    let world = world().set("tiering.concurrency", 4).build().await;
    let files = synced(&world, 20).await;
    world.local.add(Fault::no_batch_deletions());

    assert_eq!(pass(&world).await, 20);

    assert_eq!(world.local.count(&Match::batch_deletions()), 1, "the refusal is remembered");
    assert_eq!(world.local.count(&single_deletions()), 20);
    let requests = world.local.requests();
    let most = requests.iter().filter(|request| single_deletions().holds(request)).map(|one| one.beside + 1);
    assert!(most.max().unwrap() <= 4, "not more at once than tiering.concurrency");
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(world.stored("s3", file).await, Some(pattern(seed as u64, 1_000).sha256()));
    }
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_with_an_error_in_its_body_deletes_no_row() {
    let world = world().build().await;
    let files = synced(&world, 5).await;
    let failed = world.local.add(Fault::status(200, "InternalError").matching(Match::batch_deletions()));

    assert_eq!(pass(&world).await, 0);

    assert_eq!((failed.struck(), marked(&world).await), (1, 5));
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(world.stored("minio", file).await, Some(pattern(seed as u64, 1_000).sha256()));
    }
    failed.remove();
    world.expire_leases().await;
    assert_eq!(pass(&world).await, 5);
    assert_eq!(world.local.count(&single_deletions()), 0, "the store is still asked for several at once");
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_between_the_deletion_of_several_copies_and_their_rows_is_replaced() {
    let world = world().build().await;
    let files = synced(&world, 5).await;
    let gate = world.local.gate(Match::batch_deletions(), Hold::Answer);
    kill_pass_at(&world, &gate).await;
    gate.open();
    eventually("the store has deleted them", || async {
        (world.stored("minio", &files[0]).await.is_none()).then_some(())
    })
    .await;
    assert_eq!(marked(&world).await, 5, "deleted, but the rows remain");
    assert_eq!(pass(&world).await, 0, "the leases still hold");

    world.expire_leases().await;

    assert_eq!(pass(&world).await, 5);
    assert_eq!(marked(&world).await, 0);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_pinned_while_its_copy_waits_for_others_is_kept() {
    let world = world().build().await;
    let files = synced(&world, 3).await;
    let (first, last) = (world.key(&files[0]).await, world.key(&files[2]).await);
    let gate =
        world.cloud.gate(Match::method(Method::HEAD).key_contains(last.as_str().to_owned()), Hold::Answer);
    let meanwhile = async {
        gate.reached().await;
        eventually("the other copy of the first file was found", || async {
            let requests = world.cloud.requests();
            let is_found = requests.iter().any(|request| {
                request.method == Method::HEAD && request.path.contains(first.as_str()) && request.done
            });
            is_found.then_some(())
        })
        .await;
        change::pin(&world.context, files[0].row.id, true, &Origin::default()).await.unwrap();
        gate.open();
    };

    let (evicted, ()) = tokio::join!(pass(&world), meanwhile);

    assert_eq!(evicted, 2, "the rows are checked again before the batch is sent");
    assert_eq!(world.stored("minio", &files[0]).await, Some(pattern(0, 1_000).sha256()));
    assert_eq!(world.replica("minio", &files[0]).await.unwrap().state, ReplicaState::Present);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_response_about_one_object_does_not_keep_the_others() {
    // Half of the time between the check of the rows and the deletion is a second.
    let world = world().set("tiering.lease", "8s").build().await;
    let files = synced(&world, 3).await;
    let last = world.key(&files[2]).await;
    let gate =
        world.cloud.gate(Match::method(Method::HEAD).key_contains(last.as_str().to_owned()), Hold::Answer);
    let meanwhile = async {
        gate.reached().await;
        eventually("the others are deleted", || async {
            let gone = world.stored("minio", &files[0]).await.is_none()
                && world.stored("minio", &files[1]).await.is_none();
            gone.then_some(())
        })
        .await;
        gate.open();
    };

    let (evicted, ()) = tokio::join!(pass(&world), meanwhile);

    assert!(evicted >= 2, "{evicted}");
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconcile_deletes_orphans_and_surplus_copies_with_few_requests_and_reports_each() {
    let world = world().in_memory().build().await;
    let files = synced(&world, 20).await;
    let [_, cloud] = world.memory.as_ref().unwrap();
    execute(&world.context.db, "DELETE FROM replicas WHERE store = 's3'").await.unwrap();
    let orphan = || ObjectKey::new(files[0].row.owner_id.0, Uuid::now_v7(), "stray");
    let orphans: Vec<ObjectKey> = (0..20).map(|_| orphan()).collect();
    for key in &orphans {
        cloud.place(key.as_str(), Bytes::from_static(b"stray"), TimeDelta::hours(48));
    }
    cloud.set_deletion(orphans[4].as_str(), Deletion::Refused);
    world.context.clock.advance(TimeDelta::hours(25));
    let mut kept = Vec::new();
    let tell = |event: Event<'_>| {
        if let Event::Found(finding) = event
            && finding.outcome.kept_because().is_some()
        {
            kept.push(finding.key.clone());
        }
    };
    let options = Options { apply: true, safety_age: Duration::from_secs(24 * 3600) };
    let store = world.context.stores.get("s3").unwrap();

    let summary = reconcile::pass(&world.context, store, options, tell, &CancellationToken::new()).await;

    let found = summary.unwrap().unwrap().of(Kind::Orphan);
    assert_eq!((found.found, found.applied), (40, 39));
    assert_eq!(kept, [orphans[4].as_str()]);
    let requests = world.cloud.count(&Match::deletions());
    assert!(requests <= 3, "{requests} requests for 40 objects");
    let left: Vec<String> = cloud.objects().into_keys().filter(|key| key.starts_with("user-")).collect();
    assert_eq!(left, [orphans[4].as_str()]);
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(world.stored("minio", file).await, Some(pattern(seed as u64, 1_000).sha256()));
    }
}
