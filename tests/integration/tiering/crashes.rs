//! kill -9 of a worker at every step of a copy and at random moments: the next worker finishes, byte for byte, and
//! resends no recorded part.

use std::collections::BTreeSet;
use std::time::Duration;

use nightferry_core::db::enums::RunStatus;
use nightferry_core::db::runs::{Run, RunScope};
use nightferry_core::file::details::FileView;
use nightferry_core::tiering::run;
use nightferry_tests::harness::database::texts;
use nightferry_tests::harness::fault_proxy::{Hold, Match, Request};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Method;

const MIB: u64 = 1024 * 1024;
const PART: u64 = 8 * MIB;
const PARTS_AT_ONCE: usize = 3;

fn world() -> WorldBuilder {
    World::with("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", PART / MIB)
        .set("tiering.part_concurrency", PARTS_AT_ONCE)
        .set("tiering.heartbeat", "300ms")
}

fn parts() -> Match {
    Match::method(Method::PUT).has_parameter("partNumber")
}

fn creation() -> Match {
    Match::method(Method::POST).has_parameter("uploads")
}

fn completion() -> Match {
    Match::method(Method::POST).has_parameter("uploadId")
}

/// A part, as seen by the proxy and by the database.
type Part = (String, String);

/// The recorded parts, by upload and number.
async fn recorded(world: &World) -> BTreeSet<Part> {
    let rows = texts(&world.context.db, "SELECT upload_id || ' ' || number FROM transfer_parts").await;
    rows.into_iter()
        .map(|row| row.rsplit_once(' ').map(|(id, part)| (id.to_owned(), part.to_owned())).unwrap())
        .collect()
}

fn part_of(request: &Request) -> Part {
    let upload = request.parameter("uploadId").unwrap();
    (
        upload.replace("%3D", "=").replace("%2B", "+").replace("%2F", "/"),
        request.parameter("partNumber").unwrap().to_owned(),
    )
}

/// The parts of which bytes were sent so far, with one entry per request.
fn sent(world: &World) -> Vec<Part> {
    let requests = world.cloud.requests();
    requests
        .iter()
        .filter(|request| parts().holds(request) && request.request_bytes > 0)
        .map(part_of)
        .collect()
}

/// Parts recorded before a worker was killed must not be sent again.
struct Kill {
    recorded: BTreeSet<Part>,
    sent: usize,
}

impl Kill {
    /// A worker was killed; the next worker takes over its work.
    async fn seen(world: &World) -> Self {
        // Requests of the dead worker have ended once its connections are closed.
        world.cloud.until(|requests| requests.iter().all(|request| request.done)).await;
        world.expire_leases().await;
        Self { recorded: recorded(world).await, sent: sent(world).len() }
    }
}

fn assert_nothing_on_record_was_sent_again(world: &World, kills: &[Kill]) {
    let sent = sent(world);
    for kill in kills {
        let again: Vec<_> = sent[kill.sent..].iter().filter(|part| kill.recorded.contains(part)).collect();
        assert!(again.is_empty(), "sent again although it was recorded: {again:?}");
    }
}

async fn assert_all_synced(world: &World, run: &Run, files: &[(FileView, u64, u64)]) {
    assert_eq!(run.status, RunStatus::Succeeded, "{run:?}");
    let bytes: u64 = files.iter().map(|(_, _, size)| size).sum();
    assert_eq!(
        (run.files_total, run.files_done, run.files_failed),
        (files.len() as i64, files.len() as i64, 0)
    );
    assert_eq!(run.bytes_done, bytes as i64);
    for (file, seed, size) in files {
        assert_eq!(world.stored("s3", file).await, Some(pattern(*seed, *size).sha256()), "{size} bytes");
    }
    let left = texts(&world.context.db, "SELECT 1 FROM transfer_parts").await;
    assert!(left.is_empty(), "parts of finished copies are deleted");
    assert_invariants(world).await;
}

/// A worker is killed while a request waits at a gate; another one finishes. Returns the number of part requests with
/// content.
async fn is_finished_by_the_next_worker(size: u64, at: Match, hold: Hold) -> usize {
    let world = world().build().await;
    let user = world.user().await;
    let files = vec![
        (world.upload(user, "a", pattern(1, size)).await, 1, size),
        (world.upload(user, "b", pattern(2, 10)).await, 2, 10),
    ];
    let gate = world.cloud.gate(at, hold);
    let requested = world.request_run(RunScope::default()).await;
    let first = world.start_worker_process().await;
    gate.reached().await;

    first.kill();
    gate.open();
    let kill = Kill::seen(&world).await;
    let second = world.start_worker_process().await;
    let run = world.ended(requested.id).await;
    second.terminate();
    assert!(second.ended().await.success());

    assert_nothing_on_record_was_sent_again(&world, &[kill]);
    assert_all_synced(&world, &run, &files).await;
    sent(&world).len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_before_a_small_copy() {
    is_finished_by_the_next_worker(100_000, Match::method(Method::PUT).key_contains("-a"), Hold::Request)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle_of_a_small_copy() {
    let put = Match::method(Method::PUT).key_contains("-a");
    is_finished_by_the_next_worker(1_000_000, put, Hold::RequestBody(300_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_after_a_small_copy_was_stored_and_before_the_response() {
    is_finished_by_the_next_worker(100_000, Match::method(Method::PUT).key_contains("-a"), Hold::Answer)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_before_a_multipart_upload_is_created() {
    assert_eq!(is_finished_by_the_next_worker(40 * MIB, creation(), Hold::Request).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_after_a_multipart_upload_was_created_and_before_it_was_recorded() {
    // The unrecorded upload must not remain at the destination either: the invariants check this.
    assert_eq!(is_finished_by_the_next_worker(40 * MIB, creation(), Hold::Answer).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_in_the_middle_of_a_part() {
    let fourth = parts().parameter("partNumber", "4");
    let sent = is_finished_by_the_next_worker(40 * MIB, fourth, Hold::RequestBody(3 * MIB)).await;
    assert!(sent <= 5 + PARTS_AT_ONCE, "{sent} parts were sent for 5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_after_a_part_was_stored_and_before_it_was_recorded() {
    let sent =
        is_finished_by_the_next_worker(40 * MIB, parts().parameter("partNumber", "2"), Hold::Answer).await;
    assert!(sent <= 5 + PARTS_AT_ONCE, "{sent} parts were sent for 5");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_after_the_last_part_and_before_the_completion() {
    assert_eq!(is_finished_by_the_next_worker(40 * MIB, completion(), Hold::Request).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_after_the_completion_and_before_the_response() {
    assert_eq!(is_finished_by_the_next_worker(40 * MIB, completion(), Hold::Answer).await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_after_the_verification_and_before_the_commit() {
    let world = world().build().await;
    let user = world.user().await;
    let files = vec![
        (world.upload(user, "a", pattern(1, 20 * MIB)).await, 1, 20 * MIB),
        (world.upload(user, "b", pattern(2, 10)).await, 2, 10),
    ];
    let gate = world.cloud.gate(completion(), Hold::Request);
    let requested = world.request_run(RunScope::default()).await;
    let first = world.start_worker_process().await;
    gate.reached().await;
    // The commit updates the row of the run, which is locked from here on.
    let mut locking = world.context.db.conn().await.unwrap();
    let lock = format!("BEGIN; SELECT 1 FROM runs WHERE id = '{}' FOR UPDATE", requested.id);
    diesel_async::SimpleAsyncConnection::batch_execute(&mut *locking, &lock).await.unwrap();
    gate.open();
    let waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                   AND wait_event_type = 'Lock' AND query LIKE '%switched AS%'";
    eventually("the commit waits for the lock", || async {
        (!texts(&world.context.db, waiting).await.is_empty()).then_some(())
    })
    .await;

    first.kill();
    // Postgres would execute the dead worker's statement once it gets the lock: this is the crash after the commit.
    texts(&world.context.db, &format!("SELECT pg_terminate_backend(pid, 5000) FROM ({waiting}) AS w")).await;
    diesel_async::SimpleAsyncConnection::batch_execute(&mut *locking, "ROLLBACK").await.unwrap();
    drop(locking);
    let kill = Kill::seen(&world).await;
    let second = world.start_worker_process().await;
    let run = world.ended(requested.id).await;
    drop(second);

    assert_nothing_on_record_was_sent_again(&world, &[kill]);
    assert_eq!(sent(&world).len(), 3, "each part once");
    assert_all_synced(&world, &run, &files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_killed_at_random_moments_of_a_sync_of_mixed_sizes() {
    let seed =
        std::env::var("NIGHTFERRY_TEST_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("NIGHTFERRY_TEST_SEED={seed} repeats the moments of this test");
    let mut random = StdRng::seed_from_u64(seed);
    let world = world().build().await;
    let user = world.user().await;
    let mut sizes: Vec<u64> = (0..20).map(|power| 1 << power).collect();
    sizes.extend([40 * MIB, 40 * MIB + 1, 120 * MIB]);
    let mut files = Vec::new();
    for (seed, size) in sizes.into_iter().enumerate() {
        let seed = seed as u64;
        files.push((world.upload(user, &format!("{seed}"), pattern(seed, size)).await, seed, size));
    }
    let of_parts = (5 + 6 + 15, 3);
    world.cloud.limit_bandwidth(Some(30 * MIB));
    let requested = world.request_run(RunScope::default()).await;
    let mut kills = Vec::new();
    let of_files = || world.cloud.count(&Match::any().key_contains("user-"));
    for _ in 0..6 {
        let before = of_files();
        let worker = world.start_worker_process().await;
        // Measured from its first request for a file, to exclude its start, which checks the store and its marker; there
        // is none if all work is done.
        eventually("the worker starts", || async {
            let ended = !run::find(&world.context, requested.id).await.unwrap().run.status.is_active();
            (ended || of_files() > before).then_some(())
        })
        .await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..900))).await;
        worker.kill();
        kills.push(Kill::seen(&world).await);
        if !run::find(&world.context, requested.id).await.unwrap().run.status.is_active() {
            break;
        }
    }
    let last = world.start_worker_process().await;
    let run = world.ended(requested.id).await;
    drop(last);

    assert_nothing_on_record_was_sent_again(&world, &kills);
    let (all, large) = of_parts;
    let most = all + kills.len() * large * PARTS_AT_ONCE;
    let sent = sent(&world).len();
    assert!(sent <= most, "{sent} parts were sent for {all}, with {} kills", kills.len());
    assert_all_synced(&world, &run, &files).await;
}
