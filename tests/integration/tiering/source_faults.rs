//! A corrupt source is never copied. One bad reading has no effect; a source that is corrupt at rest is marked lost and
//! reported.

use bytes::Bytes;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::file::details::FileView;
use nightferry_core::store::{Body, PutOptions};
use nightferry_tests::harness::database::execute;
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, pattern};
use reqwest::Method;

const MIB: u64 = 1024 * 1024;
/// One PUT, and three parts.
const SIZES: [u64; 2] = [100_000, 20 * MIB + 7];

fn world() -> WorldBuilder {
    World::with("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .set("tiering.max_attempts", 3)
}

async fn upload_two(world: &World) -> [FileView; 2] {
    let user = world.user().await;
    [
        world.upload(user, "small", pattern(1, SIZES[0])).await,
        world.upload(user, "large", pattern(2, SIZES[1])).await,
    ]
}

/// The first read of each file, or of its second part, fails; the run succeeds, and the source is not reported as bad.
async fn is_read_again(world: WorldBuilder, fault: Fault) {
    let world = world.build().await;
    let files = upload_two(&world).await;
    let small =
        world.local.add(fault.clone().matching(Match::method(Method::GET).key_contains("small")).times(1));
    let large =
        world.local.add(fault.matching(Match::method(Method::GET).key_contains("large")).after(1).times(1));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, 2, 0), "{run:?}");
    assert_eq!((small.struck(), large.struck()), (1, 1));
    for (seed, file) in files.iter().enumerate() {
        assert_eq!(world.replica("minio", file).await.unwrap().state, ReplicaState::Present);
        assert_eq!(world.stored("s3", file).await, Some(pattern(seed as u64 + 1, SIZES[seed]).sha256()));
    }
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bits_flipped_in_transit_from_the_source_are_read_again_and_nothing_is_marked_lost() {
    is_read_again(world(), Fault::flip_response_byte(70_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_resets_in_the_middle_is_read_again() {
    is_read_again(world(), Fault::reset_response_after(50_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_hangs_is_read_again() {
    is_read_again(world().set("stores.minio.control_timeout", "2s"), Fault::hang()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_returns_500_is_read_again() {
    is_read_again(world(), Fault::status(500, "InternalError")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_404_from_a_source_is_retried() {
    is_read_again(world(), Fault::status(404, "NoSuchKey")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_was_read_wrong_is_sent_again_where_only_the_whole_can_be_checked() {
    let world = world().build().await;
    let [_, large] = upload_two(&world).await;
    execute(&world.context.db, "UPDATE objects SET block_crcs = NULL").await.unwrap();
    let second = Match::method(Method::GET).key_contains("large");
    let fault = world.local.add(Fault::flip_response_byte(70_000).matching(second).after(1).times(1));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, 2, 0), "{run:?}");
    assert_eq!(fault.struck(), 1);
    assert_eq!(world.replica("minio", &large).await.unwrap().state, ReplicaState::Present);
    assert_eq!(world.stored("s3", &large).await, Some(pattern(2, SIZES[1]).sha256()));
    worker.stop().await;
    assert_invariants(&world).await;
}

/// Damage to the source that is not detected at once.
#[derive(Clone, Copy)]
enum Damage {
    OtherBytes,
    Shorter,
    Gone,
}

async fn damage(world: &World, file: &FileView, damage: Damage) {
    let (store, key) = (world.direct.local().unwrap(), world.key(file).await);
    let size = usize::try_from(file.row.file_size).unwrap();
    let bytes = match damage {
        Damage::OtherBytes => vec![7; size],
        Damage::Shorter => vec![7; size - 1],
        Damage::Gone => return store.delete(&key).await.unwrap(),
    };
    store.put(&key, Body::Bytes(Bytes::from(bytes)), &PutOptions::default()).await.unwrap();
}

async fn is_marked_lost(how: Damage, reason: &str) {
    let world = world().build().await;
    let files = upload_two(&world).await;
    let user = world.user().await;
    let fine = world.upload(user, "fine", pattern(3, 1000)).await;
    for file in &files {
        damage(&world, file, how).await;
    }
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Partial, 1, 2), "{run:?}");
    let failures = world.failures(run.id).await;
    for file in &files {
        let failure = failures.iter().find(|failure| failure.object_id == file.object_id).unwrap();
        assert!(failure.error.contains(reason), "{:?} does not contain {reason:?}", failure.error);
        assert_eq!(failure.attempts, 1, "a retry is pointless");
        let local = world.replica("minio", file).await.unwrap();
        assert_eq!((local.state, local.last_error.as_ref()), (ReplicaState::Lost, Some(&failure.error)));
        assert_eq!(world.replica("s3", file).await.unwrap().state, ReplicaState::Failed);
        assert_eq!(world.stored("s3", file).await, None, "wrong content is never stored as an object");
    }
    assert_eq!(world.stored("s3", &fine).await, Some(pattern(3, 1000).sha256()));
    // There is no source to retry from, so a retry copies nothing.
    assert_eq!(world.retry().await.files_total, 0);
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_corrupt_at_rest_is_marked_lost_and_never_copied() {
    is_marked_lost(Damage::OtherBytes, "is corrupt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_of_another_size_is_marked_lost_and_never_copied() {
    is_marked_lost(Damage::Shorter, "is corrupt").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_source_is_marked_lost() {
    is_marked_lost(Damage::Gone, "is missing").await;
}
