//! A destination that fails in all the ways stores fail: the copies are retried, a bounded number of times, with the
//! reason recorded, never marked as present, and finished after the fault.

use std::time::{Duration, Instant};

use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::file::details::FileView;
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::memory_s3::Writes;
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, pattern};
use reqwest::Method;

const MIB: u64 = 1024 * 1024;
const SMALL: u64 = 100_000;
/// Three parts.
const LARGE: u64 = 20 * MIB + 7;
const ATTEMPTS: i32 = 3;

/// Multipart from 16 MiB on, with few attempts.
fn world() -> WorldBuilder {
    World::with("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
        .set("tiering.max_attempts", ATTEMPTS)
}

/// The copies of the files that are to fail, and no others.
fn broken() -> Match {
    Match::method(Method::PUT).key_contains("broken")
}

struct Files {
    small: FileView,
    large: FileView,
}

async fn upload_three(world: &World) -> Files {
    let user = world.user().await;
    world.upload(user, "fine", pattern(1, SMALL)).await;
    Files {
        small: world.upload(user, "broken-small", pattern(2, SMALL)).await,
        large: world.upload(user, "broken-large", pattern(3, LARGE)).await,
    }
}

async fn assert_both_synced(world: &World, files: &Files) {
    assert_eq!(world.stored("s3", &files.small).await, Some(pattern(2, SMALL).sha256()));
    assert_eq!(world.stored("s3", &files.large).await, Some(pattern(3, LARGE).sha256()));
    for file in [&files.small, &files.large] {
        let replica = world.replica("s3", file).await.unwrap();
        assert_eq!((replica.state, replica.attempts, replica.last_error), (ReplicaState::Present, 0, None));
    }
}

/// Single and multipart copies get the fault until their attempts are used up, and the run reports the reason; without
/// the fault, a retry copies both.
async fn is_given_up_and_finished_later(world: WorldBuilder, fault: Fault, reasons: [&str; 2]) {
    let world = world.build().await;
    let files = upload_three(&world).await;
    let fault = world.cloud.add(fault.matching(broken()));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.error.as_deref()), (RunStatus::Partial, None), "{run:?}");
    assert_eq!((run.files_total, run.files_done, run.files_failed), (3, 1, 2));
    let failures = world.failures(run.id).await;
    assert_eq!(failures.len(), 2);
    for (file, reason) in [(&files.small, reasons[0]), (&files.large, reasons[1])] {
        let failure = failures.iter().find(|failure| failure.object_id == file.object_id).unwrap();
        assert_eq!(failure.attempts, ATTEMPTS);
        assert!(failure.error.contains(reason), "{:?} does not contain {reason:?}", failure.error);
        let replica = world.replica("s3", file).await.unwrap();
        assert_eq!((replica.state, replica.attempts), (ReplicaState::Failed, ATTEMPTS));
        assert_eq!(replica.last_error.as_ref(), Some(&failure.error));
    }
    let tries = world.cloud.count(&broken().key_contains("small"));
    assert_eq!(tries, ATTEMPTS as usize, "each attempt is one request");
    for number in 1..=3 {
        let part = broken().key_contains("large").parameter("partNumber", number.to_string());
        assert!(world.cloud.count(&part) <= ATTEMPTS as usize);
    }
    assert!(fault.struck() > 0);
    let cloud = world.direct.cloud().unwrap();
    assert!(cloud.list_multipart_uploads("").await.unwrap().is_empty(), "parts of a failed copy are deleted");

    fault.remove();
    let retried = world.retry().await;

    assert_eq!((retried.status, retried.files_total, retried.files_done), (RunStatus::Succeeded, 2, 2));
    assert_both_synced(&world, &files).await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_to_a_destination_that_returns_500_fails_and_is_finished_later() {
    let reason = "InternalError (HTTP 500)";
    is_given_up_and_finished_later(world(), Fault::status(500, "InternalError"), [reason, reason]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_to_a_destination_that_hangs_fails_and_is_finished_later() {
    let impatient = world().set("stores.s3.idle_timeout", "2s");
    is_given_up_and_finished_later(impatient, Fault::hang(), ["timed out", "timed out"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_to_a_destination_that_resets_fails_and_is_finished_later() {
    let reason = "lost the connection";
    is_given_up_and_finished_later(world(), Fault::reset_request_after(50_000), [reason, reason]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_truncates_a_body_and_returns_200_is_detected() {
    // The small object does not exist; the object cannot be completed from the parts.
    is_given_up_and_finished_later(
        world(),
        Fault::cut_and_lie(1000),
        ["acknowledged", "CompleteMultipartUpload"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_stores_nothing_and_returns_200_is_detected() {
    is_given_up_and_finished_later(
        world(),
        Fault::swallow_and_acknowledge(),
        ["acknowledged", "CompleteMultipartUpload"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bits_flipped_in_transit_to_the_destination_are_rejected_by_its_checksum() {
    is_given_up_and_finished_later(world(), Fault::flip_request_byte(70_000), ["PutObject", "UploadPart"])
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_returns_slow_down_is_not_used_for_the_requested_time() {
    let world = world().set("tiering.backoff_cap", "2s").build().await;
    let files = upload_three(&world).await;
    // Twice for the small one; the parts of the large one are rejected together.
    world.cloud.add(Fault::slow_down(1).matching(broken().key_contains("small")).times(2));
    world.cloud.add(Fault::slow_down(1).matching(broken().key_contains("large")).times(3));
    let worker = world.start_worker();
    let begin = Instant::now();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 3), "{run:?}");
    assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
    assert_both_synced(&world, &files).await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_recovers_is_used_again_in_the_same_run() {
    for fault in [
        Fault::status(500, "InternalError"),
        Fault::reset_request_after(20_000),
        Fault::swallow_and_acknowledge(),
        Fault::flip_request_byte(3),
    ] {
        let world = world().build().await;
        let files = upload_three(&world).await;
        world.cloud.add(fault.clone().matching(broken().key_contains("small")).times(1));
        world.cloud.add(fault.clone().matching(broken().parameter("partNumber", "2")).times(1));
        let worker = world.start_worker();

        let run = world.sync().await;

        assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Succeeded, 3, 0), "{fault:?}");
        assert!(world.failures(run.id).await.is_empty());
        assert_both_synced(&world, &files).await;
        worker.stop().await;
        assert_invariants(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_completion_or_a_lost_response_sends_no_part_again() {
    for fault in [
        Fault::status(500, "InternalError"),
        Fault::reset_response_after(0),
        Fault::swallow_and_acknowledge(),
    ] {
        let world = world().build().await;
        let files = upload_three(&world).await;
        let completion = Match::method(Method::POST).has_parameter("uploadId");
        let fault = world.cloud.add(fault.matching(completion).times(1));
        let worker = world.start_worker();

        let run = world.sync().await;

        assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 3), "{run:?}");
        assert_eq!(fault.struck(), 1);
        let parts = Match::method(Method::PUT).has_parameter("partNumber");
        assert_eq!(world.cloud.count(&parts), 3, "each part once");
        assert_both_synced(&world, &files).await;
        worker.stop().await;
        assert_invariants(&world).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_unknown_to_the_destination_is_restarted() {
    let world = world().build().await;
    let files = upload_three(&world).await;
    world
        .cloud
        .add(Fault::status(404, "NoSuchUpload").matching(broken().parameter("partNumber", "3")).times(1));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 3), "{run:?}");
    assert_both_synced(&world, &files).await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn read_back_downloads_every_copy_and_detects_what_checksums_do_not() {
    let world = world().set("tiering.verify", "read-back").build().await;
    let files = upload_three(&world).await;
    // The response to the verification read is corrupt, as if the store returned other content than it reports.
    let reading = Match::method(Method::GET).key_contains("broken-small");
    let fault = world.cloud.add(Fault::flip_response_byte(10).matching(reading).times(1));
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 3), "{run:?}");
    assert_eq!(fault.struck(), 1);
    assert_eq!(world.cloud.count(&broken().key_contains("small")), 2, "it was copied again");
    assert_both_synced(&world, &files).await;
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_stores_wrong_content_is_detected() {
    let world = World::with("tiering.max_attempts", ATTEMPTS).in_memory().build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, SMALL)).await;
    let [_, cloud] = world.memory.as_ref().unwrap();
    // The store acknowledges without a checksum, and returns the true checksum on request.
    cloud.set_writes(Writes::Flipped);
    let worker = world.start_worker();

    let run = world.sync().await;

    assert_eq!((run.status, run.files_done, run.files_failed), (RunStatus::Failed, 0, 1));
    let why = &world.failures(run.id).await[0].error;
    assert!(why.contains("has SHA-256"), "{why}");
    assert_eq!(world.replica("s3", &file).await.unwrap().state, ReplicaState::Failed);
    cloud.set_writes(Writes::Sound);
    assert_eq!(world.retry().await.files_done, 1);
    assert_eq!(world.stored("s3", &file).await, Some(pattern(1, SMALL).sha256()));
    worker.stop().await;
    assert_invariants(&world).await;
}
