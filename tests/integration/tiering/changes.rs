//! Files deleted or overwritten, and runs cancelled, during copies.

use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{ReplicaState, RunStatus, RunTrigger};
use nightferry_core::db::runs::{NewRun, RunScope};
use nightferry_core::db::schedules;
use nightferry_core::error::Error;
use nightferry_core::file::details::{self, FileView};
use nightferry_core::file::trash;
use nightferry_core::tiering::reap;
use nightferry_core::tiering::run::{self, Tick};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;

const MIB: u64 = 1024 * 1024;
const LARGE: u64 = 20 * MIB;

/// A lease that is longer than the test: no step may depend on its expiry.
fn world() -> WorldBuilder {
    World::with("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .set("tiering.lease", "10m")
}

fn copies(name: &str) -> Match {
    Match::method(Method::PUT).key_contains(name)
}

async fn assert_gone(world: &World) {
    for store in world.direct.all() {
        assert_eq!(store.list("user-", None, 10).await.unwrap().objects.len(), 1, "{}", store.name());
        assert!(store.list_multipart_uploads("").await.unwrap().is_empty(), "{}", store.name());
    }
}

/// A file is permanently deleted while a request of its copy waits at a gate.
async fn is_deleted_while_it_is_copied(size: u64, at: Match, hold: Hold) {
    let world = world().build().await;
    let user = world.user().await;
    let doomed = world.upload(user, "doomed", pattern(1, size)).await;
    let kept = world.upload(user, "kept", pattern(2, 1000)).await;
    let gate = world.cloud.gate(at, hold);
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached().await;

    trash::purge(&world.context, user, doomed.row.id, &Origin::default()).await.unwrap();
    let early = reap::pass(&world.context).await.unwrap();
    assert_eq!(early.objects, 0, "a copy in progress is not touched");
    gate.open();

    let run = world.ended(requested.id).await;
    assert_eq!((run.status, run.files_total, run.files_done), (RunStatus::Succeeded, 2, 1), "{run:?}");
    assert_eq!((run.files_failed, run.bytes_done), (0, 1000));
    worker.stop().await;
    assert_invariants(&world).await;
    assert_gone(&world).await;
    assert_eq!(world.stored("s3", &kept).await, Some(pattern(2, 1000).sha256()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_that_is_deleted_while_it_is_copied_leaves_nothing_behind() {
    is_deleted_while_it_is_copied(1000, copies("doomed"), Hold::Request).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_deleted_when_its_copy_is_finished_leaves_nothing_behind() {
    is_deleted_while_it_is_copied(1000, copies("doomed"), Hold::Answer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_that_is_deleted_between_its_parts_leaves_nothing_behind() {
    let second = copies("doomed").parameter("partNumber", "2");
    is_deleted_while_it_is_copied(LARGE, second, Hold::RequestBody(100_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_deleted_while_its_upload_is_completed_leaves_nothing_behind() {
    let completion = Match::method(Method::POST).key_contains("doomed").has_parameter("uploadId");
    is_deleted_while_it_is_copied(LARGE, completion, Hold::Answer).await;
}

async fn now(world: &World, file: &FileView) -> FileView {
    details::find(&world.context, file.row.owner_id, file.row.id).await.unwrap()
}

/// A new version is uploaded while a request for the copy of the old one waits at a gate.
async fn is_overwritten_while_it_is_copied(size: u64, at: Match) {
    let world = world().build().await;
    let user = world.user().await;
    let first = world.upload(user, "a", pattern(1, size)).await;
    let gate = world.cloud.gate(at, Hold::RequestBody(500));
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached().await;

    let second = world.upload(user, "a", pattern(2, size)).await;
    assert_eq!(first.row.id, second.row.id);
    gate.open();

    let run = world.ended(requested.id).await;
    assert_eq!((run.status, run.files_total, run.files_done), (RunStatus::Succeeded, 1, 1), "{run:?}");
    let synced = world.replica("s3", &first).await.unwrap();
    assert_eq!(synced.state, ReplicaState::Present, "the old version was synced");
    let file = now(&world, &first).await;
    assert_eq!(
        (file.row.storage_location.as_str(), file.row.synced_at),
        ("minio", None),
        "the new version was not"
    );
    assert!(world.replica("s3", &second).await.is_none());

    assert_eq!(world.sync().await.files_done, 1);
    let file = now(&world, &first).await;
    assert_eq!(file.row.storage_location, "s3");
    assert_eq!(world.stored("s3", &file).await, Some(pattern(2, size).sha256()));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_overwritten_while_it_is_copied_is_synced_in_both_versions() {
    is_overwritten_while_it_is_copied(1000, Match::method(Method::PUT)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_overwritten_while_it_is_copied_is_synced_in_both_versions() {
    is_overwritten_while_it_is_copied(LARGE, Match::method(Method::PUT).parameter("partNumber", "2")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_trashed_while_it_is_copied_is_synced() {
    let world = world().build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 1000)).await;
    let gate = world.cloud.gate(Match::method(Method::PUT), Hold::Request);
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached().await;
    trash::send(&world.context, user, file.row.id, None, &Origin::default()).await.unwrap();
    gate.open();

    let run = world.ended(requested.id).await;

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1));
    assert_eq!(world.replica("s3", &file).await.unwrap().state, ReplicaState::Present);
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_trashed_and_restored_while_it_is_copied_has_its_primary_location_in_the_cloud() {
    let world = world().build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 1000)).await;
    let gate = world.cloud.gate(Match::method(Method::PUT), Hold::Answer);
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached().await;
    trash::send(&world.context, user, file.row.id, None, &Origin::default()).await.unwrap();
    let restore = format!("UPDATE files SET deleted_at = NULL WHERE id = '{}'", file.row.id);
    assert_eq!(execute(&world.context.db, &restore).await.unwrap(), 1);
    gate.open();

    let run = world.ended(requested.id).await;

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1));
    let file = now(&world, &file).await;
    assert_eq!((file.row.storage_location.as_str(), file.row.synced_at.is_some()), ("s3", true));
    assert_eq!(world.stored("s3", &file).await, Some(pattern(1, 1000).sha256()));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_cancelled_in_the_middle_finishes_what_is_in_flight_and_starts_nothing_more() {
    let world = world().set("tiering.concurrency", 2).set("tiering.batch_size", 10).build().await;
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..14 {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, 1000)).await);
    }
    let gate = world.cloud.gate(Match::method(Method::PUT), Hold::Request);
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached_by(2).await;

    run::cancel(&world.context, requested.id, None, &Origin::default()).await.unwrap();
    eventually("copies that were claimed but not started are released", || async {
        let mut queued = 0;
        for file in &files {
            let replica = world.replica("s3", file).await.unwrap();
            queued += usize::from(replica.state == ReplicaState::Queued && replica.run_id.is_none());
        }
        (queued == 12).then_some(())
    })
    .await;
    gate.open();

    let run = world.ended(requested.id).await;
    assert_eq!((run.status, run.files_total), (RunStatus::Cancelled, 14));
    assert_eq!((run.files_done, run.files_failed, run.bytes_done), (2, 0, 2000));
    assert_eq!(gate.arrivals(), 2);
    assert_invariants(&world).await;

    let next = world.sync().await;
    assert_eq!((next.status, next.files_total, next.files_done), (RunStatus::Succeeded, 12, 12));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_fails_after_its_run_was_cancelled_waits_for_the_next_run() {
    // A pause before the second attempt that is longer than the time limit of the test.
    let world = world().set("tiering.backoff_initial", "1h").set("tiering.backoff_cap", "1h").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 1000)).await;
    let gate = world.cloud.gate(Match::method(Method::PUT), Hold::Request);
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached().await;
    run::cancel(&world.context, requested.id, None, &Origin::default()).await.unwrap();
    world.cloud.break_connections().await;
    gate.open();

    let run = world.ended(requested.id).await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Cancelled, 0, 0));
    let replica = world.replica("s3", &file).await.unwrap();
    assert_eq!((replica.state, replica.attempts, replica.run_id), (ReplicaState::Queued, 1, None));
    let next = world.sync().await;
    assert_eq!((next.status, next.files_done), (RunStatus::Succeeded, 1));
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tick_and_a_file_do_not_join_a_run_that_is_being_cancelled() {
    let world = world().build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 1000)).await;
    let tick = world.context.clock.now();
    let mut conn = world.context.db.conn().await.unwrap();
    // No scheduled moment lies between the two, so the worker has no missed tick to catch up on.
    schedules::ensure(&mut conn, run::NIGHTLY, tick - chrono::Duration::milliseconds(1)).await.unwrap();
    drop(conn);
    let gate = world.cloud.gate(Match::method(Method::PUT), Hold::Request);
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached().await;
    let later = world.upload(user, "b", pattern(2, 1000)).await;
    run::cancel(&world.context, requested.id, None, &Origin::default()).await.unwrap();

    assert!(matches!(run::request_tick(&world.context, tick).await.unwrap(), Tick::NotYet));
    let new =
        || NewRun { trigger: RunTrigger::Cli, requested_by: None, tick: None, scope: RunScope::default() };
    let joined = run::request_file(&world.context, later.row.id, None, new(), &Origin::default()).await;
    assert!(matches!(joined, Err(Error::SyncAlreadyRunning(id)) if id == requested.id), "{joined:?}");
    gate.open();
    assert_eq!(world.ended(requested.id).await.status, RunStatus::Cancelled);

    let Tick::Run(nightly) = run::request_tick(&world.context, tick).await.unwrap() else {
        panic!("the tick was missed")
    };
    assert_eq!(world.ended(nightly.id).await.status, RunStatus::Succeeded);
    for file in [&file, &later] {
        assert_eq!(world.replica("s3", file).await.unwrap().state, ReplicaState::Present);
    }
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_evicted_before_it_is_read_is_read_elsewhere() {
    let world = world().another_local("nas").set("tiering.local_replicas", 2).build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 1000)).await;
    let worker = world.start_worker();
    eventually("it is in both local stores", || async {
        world.replica("nas", &file).await.filter(|it| it.state == ReplicaState::Present)
    })
    .await;
    let gate = world
        .local
        .gate(Match::method(Method::GET).key_contains(world.key(&file).await.to_string()), Hold::Request);
    let requested = world.request_run(RunScope::default()).await;
    gate.reached().await;
    let evicted = "DELETE FROM replicas WHERE store = 'minio'";
    assert_eq!(execute(&world.context.db, evicted).await.unwrap(), 1);
    world.direct.get("minio").unwrap().delete(&world.key(&file).await).await.unwrap();
    gate.open();

    let run = world.ended(requested.id).await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, 1, 0));
    assert_eq!(world.stored("s3", &file).await, Some(pattern(1, 1000).sha256()));
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_copy_does_not_affect_the_upload_of_the_same_object_to_another_store() {
    let world = world().another_local("nas").set("tiering.local_replicas", 2).build().await;
    let user = world.user().await;
    world.upload(user, "a", pattern(1, LARGE)).await;
    let second_part = Match::method(Method::PUT).parameter("partNumber", "2");
    let gate = world.cloud.gate(second_part, Hold::Request);
    world.proxy("nas").add(Fault::status(400, "InvalidRequest").on(Method::PUT));
    let worker = world.start_worker();
    let requested = world.request_run(RunScope::default()).await;
    gate.reached().await;
    eventually("the other copy has failed", || async {
        let sql = "SELECT 1 FROM replicas WHERE store = 'nas' AND state = 'failed' AND upload_id IS NULL";
        (!texts(&world.context.db, sql).await.is_empty()).then_some(())
    })
    .await;
    gate.open();

    let run = world.ended(requested.id).await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, 1, 0));
    let begun = Match::method(Method::POST).has_parameter("uploads");
    assert_eq!(world.cloud.count(&begun), 1, "no part was sent twice");
    worker.stop().await;
}
