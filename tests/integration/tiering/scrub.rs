//! Scrub: verified copies are read again, the oldest verification first; copies that are bad in two readings are lost
//! and repaired, one bad reading has no effect.

use std::time::Duration;

use bytes::Bytes;
use nightferry_core::db::enums::ReplicaState;
use nightferry_core::db::replicas;
use nightferry_core::file::details::{self, FileView};
use nightferry_core::store::{Body, PutOptions};
use nightferry_core::tiering::scrub::{self, Ended, Event, Finding, Kind, Options, Summary};
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::{World, assert_invariants, eventually, pattern};
use reqwest::Method;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const SIZE: u64 = 10_000;

fn options(world: &World) -> Options {
    let stores = world.context.stores.all().cloned().collect();
    Options { stores, rate: None, bytes: None, time: None, min_age: Duration::ZERO }
}

async fn pass_with(world: &World, options: Options) -> (Summary, Vec<Finding>) {
    let mut findings = Vec::new();
    let tell = |event: Event<'_>| {
        if let Event::Found(finding) = event {
            findings.push(finding.clone());
        }
    };
    let stop = CancellationToken::new();
    let summary = scrub::pass(&world.context, &options, tell, &stop).await.unwrap().unwrap();
    assert_eq!(summary.found(), findings.len() as u64);
    (summary, findings)
}

async fn pass(world: &World) -> (Summary, Vec<Finding>) {
    pass_with(world, options(world)).await
}

/// Synced files, each with two copies.
async fn synced(world: &World, count: u64) -> Vec<FileView> {
    let user = world.user().await;
    let mut files = Vec::new();
    for seed in 0..count {
        files.push(world.upload(user, &format!("{seed}"), pattern(seed, SIZE)).await);
    }
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, count as i64);
    worker.stop().await;
    files
}

/// Overwrites the object in the store directly.
async fn overwrite(world: &World, store: &str, file: &FileView, bytes: Bytes) {
    let key = world.key(file).await;
    let store = world.direct.get(store).unwrap();
    store.put(&key, Body::Bytes(bytes), &PutOptions::default()).await.unwrap();
}

/// The content of a file with one bit flipped.
fn flipped(seed: u64) -> Bytes {
    let mut bytes = pattern(seed, SIZE).bytes().to_vec();
    bytes[4_321] ^= 1;
    bytes.into()
}

async fn state(world: &World, store: &str, file: &FileView) -> ReplicaState {
    world.replica(store, file).await.unwrap().state
}

#[tokio::test(flavor = "multi_thread")]
async fn correct_copies_are_verified_again() {
    let world = World::new().await;
    synced(&world, 3).await;
    execute(&world.context.db, "UPDATE replicas SET verified_at = now() - interval '40 days'").await.unwrap();

    let (summary, found) = pass(&world).await;

    assert_eq!((summary.ended, summary.right, summary.bytes), (Ended::Everything, 6, 6 * SIZE));
    assert_eq!(found, []);
    let old = "SELECT 1 FROM replicas WHERE verified_at < now() - interval '1 hour'";
    assert_eq!(texts(&world.context.db, old).await.len(), 0);
    let not_yet = Options { min_age: Duration::from_secs(30 * 86_400), ..options(&world) };
    assert_eq!(pass_with(&world, not_yet).await.0.bytes, 0, "they were verified just now");
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_any_store_is_found_and_repaired_from_the_other() {
    let world = World::new().await;
    let files = synced(&world, 3).await;
    overwrite(&world, "minio", &files[0], flipped(0)).await;
    overwrite(&world, "s3", &files[1], flipped(1)).await;

    let (summary, found) = pass(&world).await;

    assert_eq!((summary.right, summary.of(Kind::Corrupt).found), (4, 2), "{found:?}");
    for (store, file) in [("minio", &files[0]), ("s3", &files[1])] {
        let finding = found.iter().find(|finding| finding.store == store).unwrap();
        assert_eq!((finding.object_id, finding.copies_left), (file.object_id, 1));
        assert!(finding.detail.contains("instead of"), "{finding:?}");
        assert_eq!(state(&world, store, file).await, ReplicaState::Queued);
    }
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    eventually("the local one is fetched back", || async {
        (state(&world, "minio", &files[0]).await == ReplicaState::Present).then_some(())
    })
    .await;
    worker.stop().await;
    for (seed, file) in files.iter().enumerate() {
        for store in ["minio", "s3"] {
            assert_eq!(world.stored(store, file).await, Some(pattern(seed as u64, SIZE).sha256()));
        }
    }
    assert_eq!(pass(&world).await.0.right, 6);
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_and_truncated_copies_are_found() {
    let world = World::new().await;
    let files = synced(&world, 2).await;
    world.direct.cloud().unwrap().delete(&world.key(&files[0]).await).await.unwrap();
    overwrite(&world, "s3", &files[1], Bytes::from_static(b"short")).await;

    let (summary, _) = pass(&world).await;

    assert_eq!((summary.of(Kind::Missing).found, summary.of(Kind::Corrupt).found), (1, 1));
    assert_eq!((summary.right, pass(&world).await.1.len()), (2, 0), "once is enough");
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_reading_does_not_mark_a_copy_as_lost() {
    let world = World::new().await;
    synced(&world, 1).await;
    let flip = world.cloud.add(Fault::flip_response_byte(5_000).on(Method::GET).times(1));
    let gone = world.local.add(Fault::status(404, "NoSuchKey").on(Method::GET).times(1));

    let (summary, found) = pass(&world).await;

    assert_eq!((flip.struck(), gone.struck()), (1, 1));
    assert_eq!((summary.right, found.len()), (2, 0), "{found:?}");
    assert!(summary.bytes >= 3 * SIZE, "content that was read twice counts twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_verification_comes_first_and_passes_continue() {
    let world = World::new().await;
    let files = synced(&world, 3).await;
    for (age, (store, file)) in
        [("minio", 2), ("s3", 0), ("s3", 2), ("minio", 0), ("minio", 1), ("s3", 1)].into_iter().enumerate()
    {
        let sql = format!(
            "UPDATE replicas SET verified_at = now() - interval '{} days' WHERE store = '{store}' AND object_id = '{}'",
            90 - age,
            files[file].object_id
        );
        execute(&world.context.db, &sql).await.unwrap();
    }
    let read = async || {
        let sql =
            "SELECT store || ' ' || object_id FROM replicas WHERE verified_at > now() - interval '1 hour'";
        let mut read = texts(&world.context.db, sql).await;
        read.sort();
        read
    };
    let named = |copies: &[(&str, usize)]| {
        let mut named: Vec<String> =
            copies.iter().map(|(store, file)| format!("{store} {}", files[*file].object_id)).collect();
        named.sort();
        named
    };
    let some = || Options { bytes: Some(3 * SIZE), ..options(&world) };

    assert_eq!(pass_with(&world, some()).await.0.ended, Ended::Limit);
    assert_eq!(read().await, named(&[("minio", 2), ("s3", 0), ("s3", 2)]));

    let (summary, _) = pass_with(&world, some()).await;
    assert_eq!((summary.right, read().await.len()), (3, 6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_down_is_skipped_and_none_of_its_copies_becomes_lost() {
    let world = World::new().await;
    let files = synced(&world, 5).await;
    let down = world.cloud.add(Fault::status(503, "ServiceUnavailable"));

    let (summary, found) = pass(&world).await;

    assert_eq!((summary.right, summary.unread, found.len()), (5, 1, 0));
    assert_eq!(summary.unreachable, ["s3"]);
    down.remove();
    assert_eq!(state(&world, "s3", &files[0]).await, ReplicaState::Present);
    assert_eq!(pass(&world).await.0.right, 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_evicted_while_it_is_scrubbed_is_not_reported_missing() {
    let world = World::new().await;
    let files = synced(&world, 1).await;
    let gate = world.local.gate(Match::method(Method::GET), Hold::Request);
    let evicted = async {
        gate.reached().await;
        // In the order of an eviction: the mark, the content, the row.
        execute(&world.context.db, "DELETE FROM replicas WHERE store = 'minio'").await.unwrap();
        world.direct.local().unwrap().delete(&world.key(&files[0]).await).await.unwrap();
        gate.open();
    };

    let ((summary, found), ()) = tokio::join!(pass(&world), evicted);

    assert_eq!((summary.right, found.len()), (1, 0), "{found:?}");
    assert_eq!(state(&world, "s3", &files[0]).await, ReplicaState::Present);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_a_verified_copy_is_recovered_when_its_content_is_back() {
    let world = World::new().await;
    let files = synced(&world, 2).await;
    let lost = async || {
        let mut conn = world.context.db.conn().await.unwrap();
        replicas::objects_lost(&mut conn).await.unwrap()
    };
    for store in ["minio", "s3"] {
        overwrite(&world, store, &files[0], flipped(0)).await;
    }
    let (_, found) = pass(&world).await;
    let left: Vec<u64> = found.iter().map(|finding| finding.copies_left).collect();
    assert_eq!((left.iter().sum::<u64>(), left.len(), lost().await), (1, 2, 1), "{found:?}");
    assert_eq!(pass(&world).await.0.returned, 0, "its content is still wrong");
    assert_invariants(&world).await;

    overwrite(&world, "minio", &files[0], pattern(0, SIZE).bytes()).await;
    let (summary, _) = pass(&world).await;

    assert_eq!((summary.returned, lost().await), (1, 0));
    assert_eq!(state(&world, "minio", &files[0]).await, ReplicaState::Present);
    let row = details::find(&world.context, files[0].row.owner_id, files[0].row.id).await.unwrap().row;
    assert_eq!((row.storage_location.as_str(), row.synced_at), ("minio", None));
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    worker.stop().await;
    assert_eq!(world.stored("s3", &files[0]).await, Some(pattern(0, SIZE).sha256()));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_pass_ends_immediately_and_is_reported() {
    let world = World::new().await;
    synced(&world, 2).await;
    let gate = world.local.gate(Match::method(Method::GET), Hold::Request);
    let stop = CancellationToken::new();
    let stopped = async {
        gate.reached().await;
        stop.cancel();
    };
    let only_local =
        Options { stores: vec![world.context.stores.local().unwrap().clone()], ..options(&world) };

    let (outcome, ()) = tokio::join!(scrub::pass(&world.context, &only_local, |_| (), &stop), stopped);

    gate.open();
    assert_eq!(outcome.unwrap().unwrap().ended, Ended::Interrupted);
    assert_eq!(pass(&world).await.0.right, 4, "it was released");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_scrubs_and_repairs_by_itself_when_its_schedule_says_so() {
    let world = World::with("scrub.schedule", "* * * * * *").set("scrub.min_age", "0s").build().await;
    let files = synced(&world, 1).await;
    overwrite(&world, "s3", &files[0], flipped(0)).await;
    let workers = [world.start_worker(), world.start_worker()];

    eventually("it is found and queued again", || async {
        (state(&world, "s3", &files[0]).await == ReplicaState::Queued).then_some(())
    })
    .await;
    assert_eq!(world.sync().await.files_done, 1);

    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(world.stored("s3", &files[0]).await, Some(pattern(0, SIZE).sha256()));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_reports_bad_copies_in_json_and_by_its_exit_code() {
    let world = World::new().await;
    let files = synced(&world, 1).await;
    let run = async |arguments: &[&str]| {
        let process = world.start_process(arguments).await;
        let code = process.ended().await.code().unwrap();
        (code, serde_json::from_str::<Value>(&process.stdout()).unwrap())
    };
    let (code, document) = run(&["--json", "scrub", "--rate", "1GiB"]).await;
    assert_eq!(
        (code, &document["right"], &document["ended"]),
        (0, &2.into(), &"everything".into()),
        "{document}"
    );

    overwrite(&world, "minio", &files[0], flipped(0)).await;
    let (code, document) = run(&["--json", "scrub", "--store", "minio", "--limit", "1h"]).await;

    assert_eq!((code, &document["ok"]), (7, &Value::Bool(false)), "{document}");
    assert_eq!(document["found"][0]["kind"], "corrupt");
    assert_eq!(document["found"][0]["copies_left"], 1);
    assert_eq!(document["findings"]["corrupt"]["found"], 1);
}
