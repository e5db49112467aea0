//! Copies are checked concurrently, in waves, and deleted together: no deletion relies on a check that is too old.

use std::time::Duration;

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::file::change;
use nightferry_core::file::details::FileView;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::evict;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match, Request};
use nightferry_tests::harness::{WorkerHandle, World, assert_invariants, eventually, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

/// HEAD requests at once: two for each transfer.
const TOGETHER: usize = 16;

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
    files
}

async fn pass(world: &World) -> usize {
    evict::pass(&world.context, WorkerId::new(), &CancellationToken::new()).await.unwrap()
}

fn heads() -> Match {
    Match::method(Method::HEAD).key_contains("user-")
}

async fn world() -> World {
    World::with("tiering.free_local_after", "0s")
        .set("tiering.concurrency", TOGETHER / 2)
        .set("tiering.lease", "60s")
        .build()
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn several_hundred_copies_are_checked_at_the_configured_concurrency_and_deleted_together() {
    const FILES: usize = 300;
    let world = world().await;
    synced(&world, FILES as u64).await;
    world.cloud.forget_requests();
    world.local.forget_requests();
    // A link of 40 ms.
    world.cloud.add(Fault::delay(Duration::from_millis(40)).matching(heads()));

    assert_eq!(pass(&world).await, FILES);

    let requests = world.cloud.requests();
    let seen: Vec<&Request> = requests.iter().filter(|request| heads().holds(request)).collect();
    assert_eq!(seen.len(), FILES, "each copy has a HEAD of its own");
    let most = seen.iter().map(|request| request.beside + 1).max().unwrap();
    assert!(most <= TOGETHER, "{most} requests at once");
    // A request without another one beside it begins a wave; one after the other, all would be alone.
    let waves = seen.iter().filter(|request| request.beside == 0).count();
    assert!(waves <= FILES / 4, "{waves} rounds");
    let deletions = world.local.count(&Match::deletions());
    assert!(deletions <= 4, "{deletions} requests to delete {FILES} copies");
    assert!(texts(&world.context.db, "SELECT 1 FROM replicas WHERE store = 'minio'").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_wave_waits_for_its_heads_at_the_same_time_and_nothing_is_deleted_before() {
    let world = world().await;
    synced(&world, 40).await;
    let gate = world.cloud.gate(heads(), Hold::Request);
    let meanwhile = async {
        gate.reached_by(TOGETHER).await;
        let (arrived, deleted) = (gate.arrivals(), world.local.count(&Match::deletions()));
        gate.open();
        (arrived, deleted)
    };

    let (evicted, seen) = tokio::join!(pass(&world), meanwhile);

    assert_eq!((evicted, seen), (40, (TOGETHER, 0)));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_pinned_while_the_other_store_is_slow_is_checked_again_and_kept() {
    let world = World::with("tiering.free_local_after", "0s").set("tiering.lease", "4s").build().await;
    let files = synced(&world, 1).await;
    let gate = world.cloud.gate(heads(), Hold::Answer);
    let meanwhile = async {
        gate.reached().await;
        change::pin(&world.context, files[0].row.id, true, &Origin::default()).await.unwrap();
        let old =
            "SELECT 1 FROM replicas WHERE state = 'evicting' AND lease_until < now() + interval '2800ms'";
        eventually("the check of the rows is old", || async {
            (!texts(&world.context.db, old).await.is_empty()).then_some(())
        })
        .await;
        gate.open();
    };

    let (evicted, ()) = tokio::join!(pass(&world), meanwhile);

    assert_eq!(evicted, 0);
    assert_eq!(world.local.count(&Match::deletions()), 0);
    assert_eq!(world.stored("minio", &files[0]).await, Some(pattern(0, 1_000).sha256()));
    world.expire_leases().await;
    eventually("it is present", || async {
        pass(&world).await;
        (world.replica("minio", &files[0]).await?.state == ReplicaState::Present).then_some(())
    })
    .await;
    assert_invariants(&world).await;
}
