//! An encrypted cloud store: objects are unreadable there, are returned byte for byte and in ranges, and modifications
//! are detected.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::runs::RunScope;
use nightferry_core::encryption::{CHUNK, EncryptionEnvelope, TAG, encrypted_size};
use nightferry_core::file::details::FileView;
use nightferry_core::file::download;
use nightferry_core::ids::UserId;
use nightferry_core::object::crypto::Encryptor;
use nightferry_core::store::{Body, ByteRange, PutOptions, StoreError};
use nightferry_core::tiering::scrub::{self, Kind, Options, Summary};
use nightferry_tests::harness::api::problem;
use nightferry_tests::harness::database::{execute, texts};
use nightferry_tests::harness::fault_proxy::{Fault, Hold, Match};
use nightferry_tests::harness::{World, WorldBuilder, assert_invariants, eventually, pattern};
use reqwest::Method;
use tokio_util::sync::CancellationToken;

const MIB: u64 = 1024 * 1024;
const KEY: &str = "a:YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=";
/// Empty, around the size of a chunk, larger than what is buffered in memory, and multipart with a last part that is
/// not full.
const SIZES: [u64; 9] = [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 300_000, 5 * MIB, 16 * MIB + CHUNK, 20 * MIB + 7];

fn encrypted() -> WorldBuilder {
    World::with("stores.s3.encryption", true)
        .set("stores.s3.encryption_keys", KEY)
        .set("tiering.multipart_threshold_mib", 16)
        .set("tiering.part_size_mib", 8)
}

/// Local copies are evicted as soon as they are synced.
fn encrypted_and_evicted() -> WorldBuilder {
    encrypted().set("tiering.free_local_after", "0s")
}

async fn evicted(world: &World, file: &FileView) {
    eventually("the local copy is evicted", || async {
        world.replica("minio", file).await.is_none().then_some(())
    })
    .await;
}

/// The actual content of the cloud store.
async fn stored_bytes(world: &World, file: &FileView) -> Bytes {
    let key = world.key(file).await;
    let object = world.direct.get("s3").unwrap().get(&key, None).await.unwrap();
    let pieces: Vec<Bytes> = object.body.map(Result::unwrap).collect().await;
    pieces.concat().into()
}

/// Overwrites the content in the cloud store, and keeps its metadata.
async fn overwrite(world: &World, file: &FileView, bytes: Vec<u8>) {
    let (store, key) = (world.direct.get("s3").unwrap(), world.key(file).await);
    let head = store.head(&key).await.unwrap().unwrap();
    let envelope = EncryptionEnvelope::from_metadata(&head.metadata).unwrap();
    let metadata = envelope.to_metadata().into_iter().collect();
    let options = PutOptions { metadata, ..PutOptions::default() };
    store.put(&key, Body::Bytes(bytes.into()), &options).await.unwrap();
}

async fn read(
    world: &World,
    user: UserId,
    file: &FileView,
    range: Option<ByteRange>,
) -> Result<Bytes, (Vec<u8>, StoreError)> {
    let target = download::find(&world.context, user, file.row.id, None).await.unwrap();
    let mut body = download::open(&world.services.files, &target, range).await.unwrap();
    let mut all = Vec::new();
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => all.extend_from_slice(&piece),
            Err(error) => return Err((all, error)),
        }
    }
    Ok(all.into())
}

async fn scrubbed(world: &World) -> Summary {
    let stores = world.context.stores.all().cloned().collect();
    let min_age = std::time::Duration::ZERO;
    let options = Options { stores, rate: None, bytes: None, time: None, min_age };
    scrub::pass(&world.context, &options, |_| (), &CancellationToken::new()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_every_size_are_encrypted_in_the_store_and_decrypted_for_clients() {
    let world = encrypted_and_evicted().build().await;
    let user = world.user().await;
    let mut files = Vec::new();
    for (seed, size) in (1..).zip(SIZES) {
        files.push((world.upload(user, &format!("f{seed}"), pattern(seed, size)).await, seed, size));
    }
    let worker = world.start_worker();
    let run = world.sync().await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, SIZES.len() as i64), "{run:?}");
    assert_eq!(run.bytes_done, SIZES.iter().sum::<u64>() as i64, "counted as plaintext");

    for (file, seed, size) in &files {
        evicted(&world, file).await;
        let (plain, stored) = (pattern(*seed, *size).bytes(), stored_bytes(&world, file).await);
        assert_eq!(stored.len() as u64, encrypted_size(*size));
        for at in (0..plain.len().saturating_sub(16)).step_by(4_099) {
            let needle = &plain[at..at + 16];
            assert!(
                !stored.windows(16).any(|window| window == needle),
                "{size}: byte {at} is stored in plaintext"
            );
            if stored.len() > 1_000_000 {
                break;
            }
        }
        let replica = world.replica("s3", file).await.unwrap();
        assert_eq!(replica.key_id.as_deref(), Some("a"));
        let head = world.direct.get("s3").unwrap().head(&world.key(file).await).await.unwrap().unwrap();
        assert_eq!(EncryptionEnvelope::from_metadata(&head.metadata), replica.encryption(), "{size}");
        assert_eq!(head.metadata["nf-object"], file.object_id.to_string());
        assert!(!head.metadata.contains_key("nf-sha256"), "the hash identifies the file");

        assert_eq!(read(&world, user, file, None).await.unwrap(), plain, "{size}");
    }
    worker.stop().await;
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_conditions_work_on_encrypted_files_and_read_only_the_required_chunks() {
    let world = encrypted_and_evicted().build().await;
    let api = world.start_api();
    let ann = api.person().await;
    let size = 5 * CHUNK + 100;
    let file = ann.upload("a.bin", pattern(1, size)).await;
    let worker = world.start_worker();
    world.sync().await;
    eventually("the local copy is evicted", || async {
        let left = texts(&world.context.db, "SELECT 1 FROM replicas WHERE store = 'minio'").await;
        left.is_empty().then_some(())
    })
    .await;
    worker.stop().await;
    let whole = pattern(1, size).bytes();
    let path = format!("/api/files/{}/download", file["id"].as_str().unwrap());
    let etag = format!("\"{}\"", file["sha256"].as_str().unwrap());

    for (first, last) in [
        (0, 0),
        (0, CHUNK - 1),
        (CHUNK - 1, CHUNK),
        (CHUNK, 2 * CHUNK - 1),
        (2 * CHUNK - 5, 4 * CHUNK + 5),
        (5 * CHUNK, 5 * CHUNK + 99),
        (size - 1, size - 1),
        (0, size - 1),
    ] {
        world.cloud.forget_requests();
        let request = ann.request(Method::GET, &path).header("range", format!("bytes={first}-{last}"));
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 206);
        let range = format!("bytes {first}-{last}/{size}");
        assert_eq!(response.headers()["content-range"], range.as_str());
        assert_eq!(response.headers()["etag"], etag.as_str());
        assert_eq!(response.headers()["content-length"], (last - first + 1).to_string().as_str());
        let wanted = &whole[usize::try_from(first).unwrap()..=usize::try_from(last).unwrap()];
        assert!(response.bytes().await.unwrap() == wanted, "{range}");
        let fetched: u64 = world.cloud.requests().iter().map(|request| request.response_bytes).sum();
        let chunks = last / CHUNK - first / CHUNK + 1;
        assert!(fetched <= chunks * (CHUNK + TAG), "{range}: {fetched} bytes for {chunks} chunks");
    }
    let get = || ann.request(Method::GET, &path);
    let response = get().header("range", "bytes=-7").send().await.unwrap();
    assert_eq!(response.bytes().await.unwrap(), &whole[whole.len() - 7..]);
    assert_eq!(get().header("if-none-match", &etag).send().await.unwrap().status(), 304);
    let ranged = get().header("range", "bytes=1-2").header("if-range", "\"other\"").send().await.unwrap();
    assert_eq!((ranged.status().as_u16(), ranged.bytes().await.unwrap()), (200, whole));
    problem(get().header("range", format!("bytes={size}-")), 416, "RANGE_NOT_SATISFIABLE").await;

    // The content in the store is useless to a client.
    let link = format!("/api/files/{}/download-url", file["id"].as_str().unwrap());
    let refused = problem(ann.request(Method::POST, &link), 409, "CONFLICT").await;
    assert!(refused["detail"].as_str().unwrap().contains("encrypted"), "{refused}");
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_a_store_is_never_returned_and_is_found_by_scrub() {
    let world = encrypted_and_evicted().build().await;
    let user = world.user().await;
    let size = 3 * CHUNK;
    let file = world.upload(user, "a", pattern(1, size)).await;
    let worker = world.start_worker();
    world.sync().await;
    evicted(&world, &file).await;
    worker.stop().await;
    let plain = pattern(1, size).bytes();
    let mut bytes = stored_bytes(&world, &file).await.to_vec();
    bytes[usize::try_from(CHUNK + TAG).unwrap() + 77] ^= 0x10;
    overwrite(&world, &file, bytes).await;

    let (given, error) = read(&world, user, &file, None).await.unwrap_err();
    assert!(
        given == plain[..usize::try_from(CHUNK).unwrap()],
        "the content that was verified before, and nothing else"
    );
    assert!(error.to_string().contains("cannot be decrypted"), "{error}");
    let good = ByteRange::of_length(2 * CHUNK, 50);
    assert_eq!(read(&world, user, &file, good).await.unwrap().len(), 50, "other chunks are still intact");

    let summary = scrubbed(&world).await;
    assert_eq!((summary.of(Kind::Corrupt).found, summary.right, summary.unread), (1, 0, 0));
    assert_eq!(world.replica("s3", &file).await.unwrap().state, ReplicaState::Lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_or_missing_chunks_are_detected() {
    let world = encrypted().build().await;
    let user = world.user().await;
    let size = 2 * CHUNK;
    let (one, two) =
        (world.upload(user, "a", pattern(1, size)).await, world.upload(user, "b", pattern(2, size)).await);
    let worker = world.start_worker();
    world.sync().await;
    worker.stop().await;
    let bytes = stored_bytes(&world, &two).await.to_vec();
    overwrite(&world, &one, bytes.clone()).await;
    overwrite(&world, &two, bytes[..usize::try_from(CHUNK + TAG).unwrap()].to_vec()).await;

    let summary = scrubbed(&world).await;

    assert_eq!(
        (summary.of(Kind::Corrupt).found, summary.right),
        (2, 2),
        "both are found, the local ones are right"
    );
    let worker = world.start_worker();
    world.sync().await;
    worker.stop().await;
    assert_eq!(scrubbed(&world).await.right, 4, "both were encrypted again");
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_killed_during_an_encrypted_upload_is_replaced_with_the_same_data_key() {
    let world =
        encrypted().set("tiering.part_concurrency", 3).set("tiering.heartbeat", "300ms").build().await;
    let user = world.user().await;
    let size = 40 * MIB + 5;
    let file = world.upload(user, "a", pattern(1, size)).await;
    let fourth = Match::method(Method::PUT).parameter("partNumber", "4");
    let gate = world.cloud.gate(fourth, Hold::RequestBody(3 * MIB));
    let requested = world.request_run(RunScope::default()).await;
    let first = world.start_worker_process().await;
    gate.reached().await;
    eventually("a part is recorded", || async {
        let parts = texts(&world.context.db, "SELECT number::text FROM transfer_parts").await;
        (!parts.is_empty()).then_some(())
    })
    .await;
    first.kill();
    gate.open();
    world.cloud.until(|requests| requests.iter().all(|request| request.done)).await;
    let before = world.replica("s3", &file).await.unwrap().encryption();
    assert!(before.is_some());
    let recorded = texts(&world.context.db, "SELECT number::text FROM transfer_parts").await;
    world.cloud.forget_requests();
    world.expire_leases().await;

    let second = world.start_worker_process().await;
    let run = world.ended(requested.id).await;
    drop(second);

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 1), "{run:?}");
    assert_eq!(world.replica("s3", &file).await.unwrap().encryption(), before, "one object, one key");
    let again = world.cloud.requests();
    let again = again.iter().filter_map(|request| request.parameter("partNumber"));
    assert!(again.into_iter().all(|part| !recorded.iter().any(|known| known == part)), "{recorded:?}");
    assert_eq!(stored_bytes(&world, &file).await.len() as u64, encrypted_size(size));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_memory_of_an_encrypting_worker_is_bounded() {
    // Encryption is slow in unoptimised builds.
    let world = encrypted().set("tiering.lease", "60s").build().await;
    let user = world.user().await;
    let size = 72 * MIB;
    let file = world.upload(user, "large", pattern(1, size)).await;
    for seed in 2..6 {
        world.upload(user, &format!("f{seed}"), pattern(seed, 3 * MIB)).await;
    }
    let requested = world.request_run(RunScope::default()).await;
    let worker = world.start_worker_process().await;
    let run = world.ended(requested.id).await;
    let peak = worker.peak_memory();
    drop(worker);

    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 5), "{run:?}");
    println!("the peak memory of the worker was {peak} bytes");
    assert!(peak < 64 * MIB, "{peak}");
    assert_eq!(stored_bytes(&world, &file).await.len() as u64, encrypted_size(size));
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_changed_in_transit_are_rejected_and_sent_again() {
    let world = encrypted().set("tiering.verify", "read-back").build().await;
    let user = world.user().await;
    let files = [
        (world.upload(user, "small", pattern(1, 1000)).await, 1000),
        (world.upload(user, "whole", pattern(2, 2 * MIB)).await, 2 * MIB),
        (world.upload(user, "parts", pattern(3, 20 * MIB)).await, 20 * MIB),
    ];
    for name in ["-small", "-whole", "-parts"] {
        let put = Match::method(Method::PUT).key_contains(name);
        world.cloud.add(Fault::flip_request_byte(500).matching(put).times(1));
    }
    let worker = world.start_worker();
    let run = world.sync().await;
    worker.stop().await;
    assert_eq!((run.status, run.files_done), (RunStatus::Succeeded, 3), "{run:?}");
    for (file, size) in &files {
        assert_eq!(stored_bytes(&world, file).await.len() as u64, encrypted_size(*size));
    }
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_local_copy_is_decrypted_and_a_lost_cloud_copy_is_encrypted_again() {
    let world = encrypted().build().await;
    let user = world.user().await;
    let (one, two) = (
        world.upload(user, "a", pattern(1, 20 * MIB)).await,
        world.upload(user, "b", pattern(2, 100_000)).await,
    );
    let worker = world.start_worker();
    world.sync().await;
    let old = world.replica("s3", &two).await.unwrap().encryption();
    world.direct.get("minio").unwrap().delete(&world.key(&one).await).await.unwrap();
    world.direct.get("s3").unwrap().delete(&world.key(&two).await).await.unwrap();

    assert_eq!(scrubbed(&world).await.of(Kind::Missing).found, 2);
    world.sync().await;
    eventually("both have been made again", || async {
        let present = "SELECT 1 FROM replicas WHERE state = 'present'";
        (texts(&world.context.db, present).await.len() == 4).then_some(())
    })
    .await;
    worker.stop().await;

    assert_eq!(world.stored("minio", &one).await, Some(pattern(1, 20 * MIB).sha256()));
    assert_eq!(world.replica("minio", &one).await.unwrap().encryption(), None);
    let new = world.replica("s3", &two).await.unwrap().encryption();
    assert!(new.is_some() && new != old, "a key is used for one copy only");
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_write_is_readable_and_recorded_by_scrub() {
    let world = encrypted_and_evicted().build().await;
    let user = world.user().await;
    let size = CHUNK + 9;
    let file = world.upload(user, "a", pattern(1, size)).await;
    let worker = world.start_worker();
    world.sync().await;
    evicted(&world, &file).await;
    worker.stop().await;
    // Like a worker whose lease expired during its PUT: the right content under a separate envelope.
    let (store, key) = (world.direct.get("s3").unwrap(), world.key(&file).await);
    let late = Encryptor::begin(store, &key, size, &pattern(1, size).sha256()).unwrap().unwrap();
    let plain = pattern(1, size).stream().map(|piece| piece.map_err(Into::into));
    let (length, encrypted) = late.encrypt(plain, 0, size);
    let options =
        PutOptions { metadata: late.envelope.to_metadata().into_iter().collect(), ..PutOptions::default() };
    store.put_trailing(&key, Body::stream(length, encrypted), &options).await.unwrap();
    assert_ne!(world.replica("s3", &file).await.unwrap().encryption().as_ref(), Some(&late.envelope));

    assert_eq!(read(&world, user, &file, None).await.unwrap(), pattern(1, size).bytes());
    assert_eq!(scrubbed(&world).await.right, 1);
    assert_eq!(world.replica("s3", &file).await.unwrap().encryption(), Some(late.envelope));
    assert_invariants(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_copy_with_an_interrupted_eviction_becomes_readable_after_its_verification() {
    let world = encrypted().set("tiering.lease", "1500ms").set("tiering.heartbeat", "300ms").build().await;
    let user = world.user().await;
    let file = world.upload(user, "a", pattern(1, 300_000)).await;
    let worker = world.start_worker();
    assert_eq!(world.sync().await.files_done, 1);
    worker.stop().await;
    // The worker died before it deleted anything, and then the other copy was lost.
    for sql in [
        "UPDATE replicas SET state = 'evicting', lease_token = gen_random_uuid(), lease_worker = gen_random_uuid(), \
             lease_until = now() WHERE store = 's3'",
        "DELETE FROM replicas WHERE store = 'minio'",
    ] {
        assert_eq!(execute(&world.context.db, sql).await.unwrap(), 1);
    }
    world.cloud.add(
        Fault::delay(Duration::from_secs(4)).on(Method::GET).key_contains(world.key(&file).await.as_str()),
    );
    let worker = world.start_worker();

    let kept = eventually("it exists again", || async {
        world.replica("s3", &file).await.filter(|it| it.state == ReplicaState::Present)
    })
    .await;

    assert!(kept.verified_at.is_some());
    worker.stop().await;
}
