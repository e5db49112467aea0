//! The order of the files in a run.

use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::runs::RunScope;
use nightferry_core::file::details::FileView;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::{claim, run};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::{World, assert_invariants, pattern};
use reqwest::Method;

/// In the order of upload.
const SIZES: [u64; 5] = [3000, 1000, 5000, 2000, 4000];

/// A world with these files that copies one file at a time.
async fn world(order: &str) -> (World, Vec<FileView>) {
    let world = World::with("tiering.order", order)
        .set("tiering.concurrency", 1)
        .set("tiering.batch_size", 1)
        .set("tiering.max_attempts", 2)
        .build()
        .await;
    let user = world.user().await;
    let mut files = Vec::new();
    for size in SIZES {
        files.push(world.upload(user, &format!("file-{size}"), pattern(size, size)).await);
    }
    (world, files)
}

/// The sizes in the order in which the cloud store received them.
fn synced(world: &World) -> Vec<u64> {
    let requests = world.cloud.requests();
    let puts = requests.iter().filter(|request| request.method == Method::PUT);
    puts.map(|request| request.path.rsplit_once("file-").unwrap().1.parse().unwrap()).collect()
}

async fn order_of(order: &str) -> Vec<u64> {
    let (world, _) = world(order).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 5);
    worker.stop().await;
    assert_invariants(&world).await;
    synced(&world)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_files_are_synced_first() {
    assert_eq!(order_of("oldest").await, SIZES);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_smallest_files_are_synced_first() {
    assert_eq!(order_of("smallest").await, [1000, 2000, 3000, 4000, 5000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_files_are_synced_first() {
    assert_eq!(order_of("largest").await, [5000, 4000, 3000, 2000, 1000]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_copies_come_after_all_others() {
    let (world, _) = world("smallest").await;
    world.cloud.add(
        Fault::status(500, "InternalError")
            .matching(Match::method(Method::PUT).key_contains("file-1000"))
            .times(1),
    );
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 5));
    assert_eq!(synced(&world), [1000, 2000, 3000, 4000, 5000, 1000]);
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_without_a_recorded_size_are_synced_last() {
    // Queued before the order was changed to one by size.
    let (world, files) = world("largest").await;
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();
    let first = files[2].object_id;
    let sql = format!("UPDATE replicas SET object_size = NULL WHERE object_id = '{first}'");
    execute(&world.context.db, &sql).await.unwrap();

    let worker = world.start_worker();
    let run = world.ended(requested.id).await;

    assert_eq!(run.files_done, 5);
    assert_eq!(synced(&world), [4000, 3000, 2000, 1000, 5000]);
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_never_claim_the_same_by_size() {
    let (world, _) = world("smallest").await;
    let requested = world.request_run(RunScope::default()).await;
    run::start_queued(&world.context).await.unwrap().unwrap();

    let claims = (0..5).map(|_| {
        let context = world.context.clone();
        tokio::spawn(async move {
            claim::next_batch(&context, requested.id, WorkerId::new(), 2).await.unwrap().claims
        })
    });
    let claimed = futures_util::future::join_all(claims).await;

    let mut objects: Vec<_> =
        claimed.into_iter().flat_map(Result::unwrap).map(|claim| claim.object_id.to_string()).collect();
    objects.sort();
    objects.dedup();
    assert_eq!(objects.len(), 5);
    let copying = format!("SELECT 1 FROM replicas WHERE state = '{}'", ReplicaState::Copying);
    assert_eq!(texts(&world.context.db, &copying).await.len(), 5);
}
