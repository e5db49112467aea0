//! Eviction by policy: only with another verified copy, never of a pinned file, and unnoticed by downloads.

use std::collections::BTreeMap;

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::file::details::{self, FileView};
use nightferry_core::file::trash;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::evict;
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Gate, Hold, Match};
use nightferry_tests::harness::{
    WorkerHandle, World, WorldBuilder, assert_invariants, eventually, pattern, states,
};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

fn evicts_at_once() -> WorldBuilder {
    World::with("tiering.free_local_after", "0s")
}

/// Runs a pass of evictions until it reaches the gate, and drops it there, as if its process were killed.
pub(super) async fn kill_pass_at(world: &World, gate: &Gate) {
    let stop = CancellationToken::new();
    tokio::select! {
        _ = evict::pass(&world.context, WorkerId::new(), &stop) => panic!("the pass ended before the gate"),
        () = gate.reached() => {}
    }
}

async fn upload(world: &World, count: u64) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..count {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 10_000)).await);
    }
    files
}

/// Uploads files that are synced but not evicted yet.
async fn synced(world: &World, count: u64) -> Vec<FileView> {
    let files = upload(world, count).await;
    // With this grace period the worker marks no copy for eviction.
    let worker = WorkerHandle::start(world.context_with(&[("tiering.evict_grace", "1h")]));
    assert_eq!(world.sync().await.files_done, count as i64);
    worker.stop().await;
    files
}

/// Shifts all recorded times back by this duration.
pub(super) async fn age(world: &World, by: &str) {
    let sql = format!(
        "UPDATE replicas SET verified_at = verified_at - interval '{by}', \
         spare_since = spare_since - interval '{by}', last_used_at = last_used_at - interval '{by}'"
    );
    execute(&world.context.db, &sql).await.unwrap();
}

pub(super) async fn pass(world: &World) -> usize {
    evict::pass(&world.context, WorkerId::new(), &CancellationToken::new()).await.unwrap()
}

fn expected(states: &[(&str, usize)]) -> BTreeMap<String, usize> {
    states.iter().map(|(state, count)| ((*state).to_owned(), *count)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn local_copies_are_evicted_after_the_sync_and_downloads_read_from_the_cloud() {
    let world = evicts_at_once().build().await;
    let files = upload(&world, 5).await;
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 5));
    eventually("the local copies are evicted", || async {
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
    // Downloads all of them.
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pinned_file_keeps_its_local_copy() {
    let world = evicts_at_once().build().await;
    let files = upload(&world, 3).await;
    let pin = format!("UPDATE files SET pinned = true WHERE id = '{}'", files[1].row.id);
    execute(&world.context.db, &pin).await.unwrap();
    let worker = world.start_worker();

    assert_eq!(world.sync().await.files_done, 3);

    eventually("the others are evicted", || async {
        (states(&world).await == expected(&[("minio present", 1), ("s3 present", 3)])).then_some(())
    })
    .await;
    worker.stop().await;
    assert_eq!(pass(&world).await, 0);
    assert_eq!(world.stored("minio", &files[1]).await, Some(pattern(1, 10_000).sha256()));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_evicted_early_or_without_another_verified_copy() {
    let world = World::with("tiering.free_local_after", "1h").build().await;
    let files = synced(&world, 3).await;
    assert_eq!(pass(&world).await, 0, "it is not due yet");

    age(&world, "2h").await;
    let lost = format!(
        "UPDATE replicas SET state = 'lost' WHERE store = 's3' AND object_id = '{}'",
        files[0].object_id
    );
    execute(&world.context.db, &lost).await.unwrap();

    assert_eq!(pass(&world).await, 2, "the copy whose other copy is lost is kept");
    assert_eq!(world.replica("minio", &files[0]).await.unwrap().state, ReplicaState::Present);
    assert_eq!(world.stored("minio", &files[0]).await, Some(pattern(0, 10_000).sha256()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_evicted_within_the_grace_period() {
    let world = evicts_at_once().set("tiering.evict_grace", "1h").build().await;
    synced(&world, 2).await;
    assert_eq!(pass(&world).await, 0, "verified a moment ago");

    age(&world, "2h").await;

    assert_eq!(pass(&world).await, 2);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_kept_if_its_cloud_copy_is_lost_after_the_claim() {
    // One after the other.
    let world = evicts_at_once().set("tiering.concurrency", 1).build().await;
    let files = synced(&world, 3).await;
    // All three are claimed, and the first deletion is in progress.
    world.local.add(Fault::no_batch_deletions());
    let gate = world.local.gate(Match::method(Method::DELETE), Hold::Request);
    let stop = CancellationToken::new();
    let evicted = {
        let evicting = evict::pass(&world.context, WorkerId::new(), &stop);
        let meanwhile = async {
            gate.reached().await;
            let lost = "UPDATE replicas SET state = 'lost' WHERE store = 's3'";
            execute(&world.context.db, lost).await.unwrap();
            gate.open();
        };
        futures_util::future::join(evicting, meanwhile).await.0.unwrap()
    };

    assert_eq!(evicted, 1, "only the one whose deletion could not be stopped any more");
    assert_eq!(states(&world).await, expected(&[("minio present", 2), ("s3 lost", 3)]));
    let mut kept = 0;
    for (seed, file) in files.iter().enumerate() {
        kept += usize::from(world.stored("minio", file).await == Some(pattern(seed as u64, 10_000).sha256()));
    }
    assert_eq!(kept, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_eviction_is_cancelled_if_the_cloud_copy_is_lost() {
    let world = evicts_at_once().build().await;
    let files = synced(&world, 2).await;
    let gate = world.local.gate(Match::deletions(), Hold::Request);
    kill_pass_at(&world, &gate).await;
    // One of them was deleted by the worker that died, the other was not; and the cloud store has lost both.
    world.direct.local().unwrap().delete(&world.key(&files[0]).await).await.unwrap();
    execute(&world.context.db, "UPDATE replicas SET state = 'lost' WHERE store = 's3'").await.unwrap();
    gate.open();
    world.expire_leases().await;

    pass(&world).await;

    // Existing copies are present, missing ones are lost.
    assert_eq!(states(&world).await, expected(&[("minio lost", 1), ("minio present", 1), ("s3 lost", 2)]));
    assert_eq!(world.replica("minio", &files[1]).await.unwrap().state, ReplicaState::Present);
    assert_eq!(world.stored("minio", &files[1]).await, Some(pattern(1, 10_000).sha256()));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_overwritten_deleted_and_restored_during_eviction_stay_intact() {
    let world = evicts_at_once().build().await;
    let files = synced(&world, 12).await;
    let owner = files[0].row.owner_id;

    let evicting = async {
        let mut evicted = 0;
        for _ in 0..4 {
            evicted += pass(&world).await;
        }
        evicted
    };
    let changing = async {
        for (index, file) in files.iter().enumerate() {
            let id = file.row.id;
            match index % 4 {
                0 => drop(world.upload(owner, &file.row.filename, pattern(100 + index as u64, 5_000)).await),
                1 => trash::send(&world.context, owner, id, None, &Origin::default()).await.unwrap(),
                2 => trash::purge(&world.context, owner, id, &Origin::default()).await.unwrap(),
                _ => {
                    trash::send(&world.context, owner, id, None, &Origin::default()).await.unwrap();
                    let restore = format!("UPDATE files SET deleted_at = NULL WHERE id = '{id}'");
                    execute(&world.context.db, &restore).await.unwrap();
                }
            }
        }
    };
    futures_util::future::join(evicting, changing).await;

    pass(&world).await;
    for (index, file) in files.iter().enumerate().filter(|(index, _)| index % 4 != 2) {
        let held =
            format!("SELECT 1 FROM replicas WHERE object_id = '{}' AND state = 'present'", file.object_id);
        assert!(!texts(&world.context.db, &held).await.is_empty(), "{index}");
    }
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_evictions_delete_each_copy_once_and_never_the_last_one() {
    let world = evicts_at_once().build().await;
    let files = upload(&world, 40).await;
    let denied = world.local.add(Fault::status(500, "InternalError").matching(Match::deletions()));
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 40);
    worker.stop().await;
    denied.remove();
    // Every marked copy is released, so that other workers can process it.
    world.expire_leases().await;
    world.local.forget_requests();

    let passes = (0..6).map(|_| pass(&world));
    let evicted: usize = futures_util::future::join_all(passes).await.into_iter().sum();

    assert_eq!(evicted, 40);
    let deletions = world.local.count(&Match::deletions());
    assert!((1..=6).contains(&deletions), "{deletions}: each pass deletes what it has claimed at once");
    assert_eq!(world.cloud.count(&Match::deletions()), 0);
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(world.stored("s3", file).await, Some(pattern(seed as u64, 10_000).sha256()));
    }
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_could_not_be_evicted_is_evicted_later_by_the_same_worker() {
    let world = evicts_at_once().set("tiering.lease", "1s").set("tiering.heartbeat", "200ms").build().await;
    upload(&world, 2).await;
    let denied = world.local.add(Fault::status(500, "InternalError").matching(Match::deletions()));
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 2);
    eventually("an eviction was attempted", || async { (denied.struck() >= 1).then_some(()) }).await;
    denied.remove();

    // The mark stays until its lease expires, although the worker is alive; then the next pass continues.
    eventually("the copies are evicted", || async {
        pass(&world).await;
        (states(&world).await == expected(&[("s3 present", 2)])).then_some(())
    })
    .await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_eviction_is_completed_by_the_next_pass() {
    let world = evicts_at_once().build().await;
    synced(&world, 3).await;
    // As if killed in the middle: marked, and no process continues.
    let gate = world.local.gate(Match::deletions(), Hold::Request);
    kill_pass_at(&world, &gate).await;
    gate.open();
    assert_eq!(texts(&world.context.db, "SELECT 1 FROM replicas WHERE state = 'evicting'").await.len(), 3);

    world.expire_leases().await;
    pass(&world).await;
    assert_eq!(states(&world).await, expected(&[("s3 present", 3)]));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_started_before_its_copy_is_evicted_continues() {
    use futures_util::StreamExt;
    let world = evicts_at_once().build().await;
    let user = world.user().await;
    let size = 10 * 1024 * 1024;
    let file = world.upload(user, "a", pattern(1, size)).await;
    let target =
        nightferry_core::file::download::find(&world.context, user, file.row.id, None).await.unwrap();
    let mut body = nightferry_core::file::download::open(&world.services.files, &target, None).await.unwrap();
    let first = body.next().await.unwrap().unwrap();

    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    eventually("the local copy is evicted", || async {
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

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_download_of_an_evicted_copy_continues_from_the_cloud_at_the_same_byte() {
    use futures_util::StreamExt;
    let world = evicts_at_once().build().await;
    let user = world.user().await;
    let size = 10 * 1024 * 1024;
    let file = world.upload(user, "a", pattern(1, size)).await;
    // How the store treats a reader whose object it deletes.
    let cut = world.local.add(Fault::reset_response_after(1024 * 1024).on(Method::GET).key_contains("-a"));
    let target =
        nightferry_core::file::download::find(&world.context, user, file.row.id, None).await.unwrap();
    let mut body = nightferry_core::file::download::open(&world.services.files, &target, None).await.unwrap();
    let first = body.next().await.unwrap().unwrap();
    cut.remove();

    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    eventually("the local copy is evicted", || async {
        world.replica("minio", &file).await.is_none().then_some(())
    })
    .await;
    worker.stop().await;
    world.cloud.forget_requests();

    let mut all = first.to_vec();
    while let Some(chunk) = body.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!(all, pattern(1, size).bytes());
    let reads = Match::method(Method::GET).key_contains("user-");
    let read = world.cloud.requests().into_iter().find(|request| reads.holds(request)).unwrap();
    assert!(read.response_bytes < size, "only the rest: {read:?}");
}
