//! Local copies that the policy frees: only with a verified copy elsewhere, never of a pinned file, and a download
//! does not notice.

use std::collections::BTreeMap;

use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::file::details::{self, FileView};
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::evict;
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern, states};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

fn frees_at_once() -> WorldBuilder {
    World::with("tiering.free_local_after", "0s")
}

async fn upload(world: &World, count: u64) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..count {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await);
    }
    files
}

/// Uploads files that cross, and nothing is freed yet.
async fn crossed(world: &World, count: u64) -> Vec<FileView> {
    let files = upload(world, count).await;
    let denied = world.local.add(Fault::status(500, "InternalError").on(Method::DELETE));
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, count as i64);
    worker.stop().await;
    denied.remove();
    execute(
        &world.context.db,
        "UPDATE replicas SET lease_until = now() - interval '1s' WHERE state = 'evicting'",
    )
    .await
    .unwrap();
    files
}

async fn pass(world: &World) -> usize {
    evict::pass(&world.context, WorkerId::new(), &CancellationToken::new()).await.unwrap()
}

fn expected(states: &[(&str, usize)]) -> BTreeMap<String, usize> {
    states.iter().map(|(state, count)| ((*state).to_owned(), *count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn local_copies_are_freed_after_the_crossing_and_downloads_read_from_the_cloud() {
    let world = frees_at_once().build().await;
    let files = upload(&world, 5).await;
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 5));
    eventually("the local copies are freed", || async {
        (states(&world).await == expected(&[("s3 present", 5)])).then_some(())
    })
    .await;
    worker.stop().await;
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(world.stored("minio", file).await, None);
        assert_eq!(world.stored("s3", file).await, Some(pattern(seed as u64, 10_000).sha256()));
        let now = details::find(&world.context, file.row.owner_id, file.row.id).await.unwrap();
        assert_eq!(now.locations, ["s3"]);
    }
    // Downloads them all.
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_file_keeps_its_local_copy() {
    let world = frees_at_once().build().await;
    let files = upload(&world, 3).await;
    let pin = format!("UPDATE files SET pinned = true WHERE id = '{}'", files[1].row.id);
    execute(&world.context.db, &pin).await.unwrap();
    let worker = world.start_worker();

    assert_eq!(world.sync().await.files_done, 3);

    eventually("the others are freed", || async {
        (states(&world).await == expected(&[("minio present", 1), ("s3 present", 3)])).then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(pass(&world).await, 0);
    assert_eq!(world.stored("minio", &files[1]).await, Some(pattern(1, 10_000).sha256()));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_freed_before_its_time_or_without_a_verified_copy_elsewhere() {
    let world = World::with("tiering.free_local_after", "1h").build().await;
    let files = crossed(&world, 3).await;
    assert_eq!(pass(&world).await, 0, "it is not time yet");

    execute(&world.context.db, "UPDATE replicas SET verified_at = now() - interval '2h'").await.unwrap();
    let lost = format!(
        "UPDATE replicas SET state = 'lost' WHERE store = 's3' AND object_id = '{}'",
        files[0].object_id
    );
    execute(&world.context.db, &lost).await.unwrap();

    assert_eq!(pass(&world).await, 2, "the one whose other copy is lost stays");
    assert_eq!(world.replica("minio", &files[0]).await.unwrap().state, ReplicaState::Present);
    assert_eq!(world.stored("minio", &files[0]).await, Some(pattern(0, 10_000).sha256()));
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_free_at_once_delete_each_copy_once_and_never_the_last_one() {
    let world = frees_at_once().build().await;
    let files = upload(&world, 40).await;
    let denied = world.local.add(Fault::status(500, "InternalError").on(Method::DELETE));
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 40);
    worker.stop().await;
    denied.remove();
    // Whatever was marked is let go of, so that everybody may have it.
    execute(
        &world.context.db,
        "UPDATE replicas SET lease_until = now() - interval '1s' WHERE state = 'evicting'",
    )
    .await
    .unwrap();
    world.local.forget_requests();

    let passes = (0..6).map(|_| pass(&world));
    let freed: usize = futures_util::future::join_all(passes).await.into_iter().sum();

    assert_eq!(freed, 40);
    assert_eq!(world.local.count(&Match::method(Method::DELETE)), 40, "each once");
    assert_eq!(world.cloud.count(&Match::method(Method::DELETE)), 0);
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(world.stored("s3", file).await, Some(pattern(seed as u64, 10_000).sha256()));
    }
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_could_not_be_freed_is_freed_later_by_the_same_worker() {
    let world = frees_at_once().set("tiering.lease", "1s").set("tiering.heartbeat", "200ms").build().await;
    upload(&world, 2).await;
    let denied = world.local.add(Fault::status(500, "InternalError").on(Method::DELETE));
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 2);
    eventually("freeing was tried", || async { (denied.struck() >= 2).then_some(()) }).await;
    denied.remove();

    // The mark stays until its lease runs out, although the worker lives; then the next pass takes it up.
    eventually("the copies are freed", || async {
        pass(&world).await;
        (states(&world).await == expected(&[("s3 present", 2)])).then_some(())
    })
    .await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeing_that_was_broken_off_is_finished_by_the_next_pass() {
    let world = frees_at_once().set("tiering.lease", "1s").set("tiering.heartbeat", "200ms").build().await;
    crossed(&world, 3).await;
    // As if killed in the middle: marked, and nobody comes back.
    let gate = world.local.gate(Match::method(Method::DELETE), Hold::Request);
    {
        let stop = CancellationToken::new();
        let dying = evict::pass(&world.context, WorkerId::new(), &stop);
        tokio::select! {
            _ = dying => panic!("it waits at the gate"),
            () = gate.reached() => {}
        }
    }
    gate.open();
    assert_eq!(texts(&world.context.db, "SELECT 1 FROM replicas WHERE state = 'evicting'").await.len(), 3);

    eventually("the next pass finishes it", || async {
        pass(&world).await;
        (states(&world).await == expected(&[("s3 present", 3)])).then_some(())
    })
    .await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_began_before_its_copy_is_freed_goes_on() {
    use futures_util::StreamExt;
    let world = frees_at_once().build().await;
    let user = world.user().await;
    let size = 10 * 1024 * 1024;
    let file = world.upload(user, "a", pattern(1, size)).await;
    let target =
        nightferry_core::file::download::find(&world.context, user, file.row.id, None).await.unwrap();
    let mut body = nightferry_core::file::download::open(&world.context, &target, None).await.unwrap();
    let first = body.next().await.unwrap().unwrap();

    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    eventually("the local copy is freed", || async {
        world.replica("minio", &file).await.is_none().then_some(())
    })
    .await;
    worker.stop().await;

    let mut all = first.to_vec();
    while let Some(chunk) = body.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(all, pattern(1, size).bytes());
}
