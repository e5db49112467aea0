//! Repair: lost copies are restored from any other verified copy, in any direction; objects without one are reported,
//! and nothing is deleted.

use std::time::Duration;

use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::replicas;
use nightferry_core::file::details::{self, FileView};
use nightferry_core::tiering::reconcile::{self, Options};
use nightferry_core::tiering::{placement, repair};
use nightferry_tests::harness::database::execute;
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

const MIB: u64 = 1024 * 1024;
/// One PUT, and three parts.
const SIZES: [u64; 2] = [100_000, 20 * MIB + 7];

fn world() -> WorldBuilder {
    World::with("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .set("tiering.max_attempts", 3)
}

/// Synced files.
async fn synced(world: &World) -> [FileView; 2] {
    let user = world.user().await;
    let files = [
        world.upload(user, "small", pattern(0, SIZES[0])).await,
        world.upload(user, "large", pattern(1, SIZES[1])).await,
    ];
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 2);
    worker.stop().await;
    files
}

async fn delete(world: &World, store: &str, file: &FileView) {
    world.direct.get(store).unwrap().delete(&world.key(file).await).await.unwrap();
}

async fn reconcile(world: &World, store: &str) -> u64 {
    let options = Options { apply: true, safety_age: Duration::from_secs(86_400) };
    let store = world.context.stores.get(store).unwrap();
    let stop = CancellationToken::new();
    reconcile::pass(&world.context, store, options, |_| (), &stop).await.unwrap().unwrap().found()
}

async fn now(world: &World, file: &FileView) -> FileView {
    details::find(&world.context, file.row.owner_id, file.row.id).await.unwrap()
}

/// Waits for the local copy of a file.
async fn repaired(world: &World, file: &FileView) {
    in_state(world, file, ReplicaState::Present).await;
}

async fn in_state(world: &World, file: &FileView, state: ReplicaState) {
    eventually("the local copy is in that state", || async {
        (world.replica("minio", file).await.unwrap().state == state).then_some(())
    })
    .await;
}

async fn next_action(world: &World, file: &FileView) -> &'static str {
    placement::explain(&world.context, file.row.id, None).await.unwrap().next.action
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_local_copy_is_repaired_without_a_run_and_the_primary_location_does_not_change() {
    let world = world().build().await;
    let files = synced(&world).await;
    let mut before = Vec::new();
    for file in &files {
        before.push(now(&world, file).await.row.synced_at);
        delete(&world, "minio", file).await;
    }
    assert_eq!(reconcile(&world, "minio").await, 2);
    assert_eq!(next_action(&world, &files[0]).await, "copy");
    let worker = world.start_worker();

    for file in &files {
        repaired(&world, file).await;
    }

    worker.stop().await;
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(world.stored("minio", file).await, Some(pattern(seed as u64, SIZES[seed]).sha256()));
        let after = now(&world, file).await;
        assert_eq!((after.row.storage_location.as_str(), after.row.synced_at), ("s3", before[seed]));
        assert_eq!(after.locations, ["minio", "s3"]);
    }
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_cloud_copy_is_repaired_and_meanwhile_the_local_store_is_the_primary_location() {
    let world = world().build().await;
    let files = synced(&world).await;
    for file in &files {
        delete(&world, "s3", file).await;
    }
    assert_eq!(reconcile(&world, "s3").await, 2);
    for file in &files {
        let row = now(&world, file).await.row;
        assert_eq!((row.storage_location.as_str(), row.synced_at), ("minio", None));
    }
    assert_invariants(&world).await;
    let worker = world.start_worker();

    let run = world.sync().await;

    worker.stop().await;
    assert_eq!((run.status, run.files_total, run.files_done), (RunStatus::Succeeded, 2, 2));
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(world.stored("s3", file).await, Some(pattern(seed as u64, SIZES[seed]).sha256()));
        let row = now(&world, file).await.row;
        assert_eq!(row.storage_location, "s3");
        assert!(row.synced_at.is_some());
    }
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_the_trash_is_repaired_too() {
    let world = world().build().await;
    let files = synced(&world).await;
    for file in &files[..2] {
        let key = world.key(file).await;
        world.direct.cloud().unwrap().delete(&key).await.unwrap();
    }
    let trash = format!("UPDATE files SET deleted_at = now() WHERE id = '{}'", files[0].row.id);
    execute(&world.context.db, &trash).await.unwrap();
    execute(
        &world.context.db,
        &format!(
            "UPDATE replicas SET state = 'lost' WHERE store = 's3' AND object_id = '{}'",
            files[0].object_id
        ),
    )
    .await
    .unwrap();
    assert_eq!(reconcile(&world, "s3").await, 1);
    let worker = world.start_worker();

    assert_eq!(world.sync().await.files_done, 2);

    worker.stop().await;
    assert_eq!(world.replica("s3", &files[0]).await.unwrap().state, ReplicaState::Present);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_a_verified_copy_is_reported_and_nothing_is_deleted() {
    let world = world().build().await;
    let files = synced(&world).await;
    for store in ["minio", "s3"] {
        delete(&world, store, &files[0]).await;
        assert_eq!(reconcile(&world, store).await, 1);
    }
    let mut conn = world.context.db.conn().await.unwrap();
    // The repair queued before the second copy was lost has no source.
    let worker = world.start_worker();
    let run = world.sync().await;
    worker.stop().await;

    assert_eq!((run.status, run.files_total), (RunStatus::Succeeded, 0), "{run:?}");
    assert_eq!(replicas::objects_lost(&mut conn).await.unwrap(), 1);
    let explained = placement::explain(&world.context, files[0].row.id, None).await.unwrap();
    assert_eq!(explained.next.action, "lost");
    assert!(explained.next.because.contains("no verified copy is left"), "{explained:?}");
    assert_eq!(next_action(&world, &files[1]).await, "none");
    assert_eq!(world.stored("minio", &files[1]).await, Some(pattern(1, SIZES[1]).sha256()));
    assert_eq!(now(&world, &files[0]).await.row.deleted_at, None);
    assert_eq!(repair::pass(&world.context).await.unwrap().copies, 0, "there is no source for a repair");
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_repair_is_retried_on_request() {
    let world = world().set("tiering.max_attempts", 2).build().await;
    let files = synced(&world).await;
    delete(&world, "minio", &files[0]).await;
    reconcile(&world, "minio").await;
    let broken = world.local.add(Fault::status(400, "InvalidRequest").on(Method::PUT));
    let worker = world.start_worker();
    in_state(&world, &files[0], ReplicaState::Failed).await;
    assert_eq!(next_action(&world, &files[0]).await, "retry");
    broken.remove();

    assert_eq!(world.sync().await.files_total, 0, "not by itself");
    assert_eq!(world.replica("minio", &files[0]).await.unwrap().state, ReplicaState::Failed);
    world.retry().await;
    repaired(&world, &files[0]).await;

    worker.stop().await;
    assert_eq!(world.stored("minio", &files[0]).await, Some(pattern(0, SIZES[0]).sha256()));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cloud_copies_lost_during_a_run_are_repaired_by_it() {
    let world = world().build().await;
    let files = synced(&world).await;
    let user = world.user().await;
    let fresh = world.upload(user, "fresh", pattern(9, 1000)).await;
    let gate = world.cloud.gate(Match::method(Method::PUT), Hold::Request);
    let worker = world.start_worker();
    let run = world.request_run(nightferry_core::db::runs::RunScope::default()).await;
    gate.reached().await;
    delete(&world, "s3", &files[0]).await;
    assert_eq!(reconcile(&world, "s3").await, 1);
    eventually("the repair joins the run", || async {
        let state = world.replica("s3", &files[0]).await.unwrap();
        (state.run_id == Some(run.id)).then_some(())
    })
    .await;
    gate.open();

    let run = world.ended(run.id).await;

    worker.stop().await;
    assert_eq!((run.status, run.files_total, run.files_done), (RunStatus::Succeeded, 2, 2));
    assert_eq!(world.stored("s3", &files[0]).await, Some(pattern(0, SIZES[0]).sha256()));
    assert_eq!(world.stored("s3", &fresh).await, Some(pattern(9, 1000).sha256()));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_reconciles_and_repairs_by_itself_when_its_schedule_says_so() {
    let world = world().set("reconcile.schedule", "* * * * * *").set("reconcile.apply", true).build().await;
    let files = synced(&world).await;
    delete(&world, "s3", &files[0]).await;
    let workers = [world.start_worker(), world.start_worker()];

    eventually("it is found and queued again", || async {
        let state = world.replica("s3", &files[0]).await.unwrap().state;
        (state == ReplicaState::Queued).then_some(())
    })
    .await;
    assert_eq!(world.sync().await.files_done, 1);

    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(world.stored("s3", &files[0]).await, Some(pattern(0, SIZES[0]).sha256()));
    assert_invariants(&world).await;
}
