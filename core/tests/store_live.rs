//! What every S3 server must do for Nightferry, tried against a real one. Runs only where `NIGHTFERRY_TEST_S3_ENDPOINT`
//! (with `_ACCESS_KEY` and `_SECRET_KEY`) names a server; each test uses a bucket or keys of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use nightferry_core::checksum::{Crc64Nvme, Sha256};
use nightferry_core::store::{
    Body, ByteRange, CONNECT_DEADLINE, CompletedPart, Deadlines, HttpClient, ListPage, ObjectKey, PutOptions,
    Store, StoreError, StoreErrorKind, StoreRole, StoreSettings, UploadId, Verdict, metadata,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use uuid::Uuid;

const MIB: usize = 1024 * 1024;

fn settings() -> Option<StoreSettings> {
    let var = |name: &str| std::env::var(format!("NIGHTFERRY_TEST_S3_{name}")).ok();
    Some(StoreSettings {
        name: "live".parse().unwrap(),
        role: StoreRole::Local,
        endpoint: var("ENDPOINT")?,
        public_endpoint: None,
        region: "us-east-1".to_owned(),
        bucket: "store-live".to_owned(),
        access_key: var("ACCESS_KEY")?.into(),
        secret_key: var("SECRET_KEY")?.into(),
        session_token: None,
        path_style: true,
        storage_class: None,
        deadlines: Deadlines::default(),
    })
}

fn open(settings: StoreSettings) -> Store {
    Store::open(settings, &HttpClient::new(CONNECT_DEADLINE).unwrap()).unwrap()
}

async fn live() -> Option<Store> {
    let store = open(settings()?);
    store.ensure_bucket().await.unwrap();
    Some(store)
}

macro_rules! live_or_skip {
    () => {
        match live().await {
            Some(store) => store,
            None => return,
        }
    };
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new(Uuid::now_v7(), Uuid::now_v7(), name)
}

fn random(length: usize) -> Bytes {
    let mut bytes = vec![0; length];
    rand::fill(bytes.as_mut_slice());
    bytes.into()
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap()
}

fn chunked(bytes: &Bytes, chunk: usize) -> Body {
    let chunks: Vec<_> =
        bytes.chunks(chunk).map(|c| Ok::<_, std::io::Error>(Bytes::copy_from_slice(c))).collect();
    Body::stream(size(bytes), stream::iter(chunks))
}

fn with_sha256(bytes: &[u8]) -> PutOptions {
    PutOptions { sha256: Some(Sha256::of(bytes)), ..PutOptions::default() }
}

async fn read(store: &Store, key: &ObjectKey, range: Option<ByteRange>) -> Result<Vec<u8>, StoreError> {
    let mut got = store.get(key, range).await?;
    let mut bytes = Vec::new();
    while let Some(chunk) = got.body.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    assert_eq!(size(&bytes), got.length);
    Ok(bytes)
}

#[tokio::test]
async fn what_was_put_is_read_inspected_and_deleted() {
    let store = live_or_skip!();
    for (length, checksum) in
        [(0, "sha"), (1, "crc"), (16 * 1024, "none"), (300_000, "sha"), (5 * MIB + 3, "crc")]
    {
        let (key, bytes) = (key("a.bin"), random(length));
        let mut options = PutOptions { content_type: Some("image/png".to_owned()), ..PutOptions::default() };
        match checksum {
            "sha" => options.sha256 = Some(Sha256::of(&bytes)),
            "crc" => options.crc64nvme = Some(Crc64Nvme::of(&bytes)),
            _ => {}
        }
        for body in [Body::Bytes(bytes.clone()), chunked(&bytes, 70_000)] {
            let receipt = store.put(&key, body, &options).await.unwrap();
            assert!(!receipt.etag.is_empty());
        }
        let head = store.head(&key).await.unwrap().unwrap();
        assert_eq!((head.size, head.content_type.as_deref()), (size(&bytes), Some("image/png")));
        let got = store.get(&key, None).await.unwrap();
        assert_eq!((got.length, got.total_size, &got.etag), (size(&bytes), size(&bytes), &head.etag));
        assert_eq!(read(&store, &key, None).await.unwrap(), bytes);
        store.delete(&key).await.unwrap();
        assert_eq!(store.head(&key).await.unwrap(), None);
        store.delete(&key).await.unwrap();
        assert_eq!(store.get(&key, None).await.unwrap_err().verdict(), Verdict::SourceMissing);
    }
}

#[tokio::test]
async fn ranges_are_exact() {
    let store = live_or_skip!();
    let (key, bytes) = (key("range"), random(3 * MIB));
    store.put(&key, bytes.clone().into(), &PutOptions::default()).await.unwrap();
    for (first, length) in [(0, 1), (5, 10), (MIB, MIB), (3 * MIB - 1, 1)] {
        let range = ByteRange::of_length(u64::try_from(first).unwrap(), u64::try_from(length).unwrap());
        assert_eq!(read(&store, &key, range).await.unwrap(), bytes[first..first + length]);
        assert_eq!(store.get(&key, range).await.unwrap().total_size, size(&bytes));
    }
    let tail = ByteRange { first: 100, last: None };
    assert_eq!(read(&store, &key, Some(tail)).await.unwrap(), bytes[100..]);
    let beyond = store.get(&key, Some(ByteRange { first: size(&bytes), last: None })).await.unwrap_err();
    assert_eq!((beyond.code(), beyond.verdict()), (Some("InvalidRange"), Verdict::Permanent));
}

#[tokio::test]
async fn other_bytes_than_promised_are_refused() {
    let store = live_or_skip!();
    let bytes = random(200_000);
    for options in [
        with_sha256(b"other"),
        PutOptions { crc64nvme: Some(Crc64Nvme::of(b"other")), ..PutOptions::default() },
    ] {
        let key = key("wrong");
        for body in [Body::Bytes(bytes.clone()), chunked(&bytes, 9000)] {
            let error = store.put(&key, body, &options).await.unwrap_err();
            assert_eq!(error.verdict(), Verdict::Corrupt, "{error}");
        }
        assert_eq!(store.head(&key).await.unwrap(), None);
    }
}

#[tokio::test]
async fn metadata_carries_any_text() {
    let store = live_or_skip!();
    let key = key("meta");
    let texts = [
        "  two  spaces  ",
        "schön ☂ 100% a+b&c=d",
        "line\nbreak\ttab",
        "\"quotes\" <xml> \\",
        &"長".repeat(80),
    ];
    for text in texts {
        let options = PutOptions {
            metadata: BTreeMap::from([
                (metadata::NAME, text.to_owned()),
                (metadata::OBJECT, Uuid::now_v7().to_string()),
                (metadata::OWNER, Uuid::now_v7().to_string()),
                (metadata::SHA256, Sha256::of(b"x").to_string()),
                (metadata::TIME, "2026-11-21T03:00:00Z".to_owned()),
                (metadata::VERSION, "1".to_owned()),
            ]),
            ..with_sha256(b"x")
        };
        store.put(&key, Bytes::from_static(b"x").into(), &options).await.unwrap();
        let head = store.head(&key).await.unwrap().unwrap();
        assert_eq!(head.metadata.get(metadata::NAME).map(String::as_str), Some(text));
        assert_eq!(head.metadata.len(), 6, "{:?}", head.metadata);
        let upload = store.create_multipart(&key, &options).await.unwrap();
        store.abort_multipart(&key, &upload).await.unwrap();
    }
}

#[tokio::test]
async fn parts_are_checked_one_by_one_and_as_a_whole() {
    let store = live_or_skip!();
    let (key, bytes) = (key("parts"), random(13 * MIB + 77));
    let options = PutOptions {
        content_type: Some("video/mp4".to_owned()),
        metadata: BTreeMap::from([(metadata::NAME, "ä  b".to_owned())]),
        ..PutOptions::default()
    };
    let upload = store.create_multipart(&key, &options).await.unwrap();
    let listed = store.list_multipart_uploads(key.as_str()).await.unwrap();
    assert!(listed.iter().any(|found| found.upload_id == upload && found.key == key.as_str()), "{listed:?}");

    let part = |number: usize| bytes.slice((number - 1) * 5 * MIB..(number * 5 * MIB).min(bytes.len()));
    let wrong =
        store.put_part(&key, &upload, 2, part(2).into(), Some(Crc64Nvme::of(b"other"))).await.unwrap_err();
    assert_eq!(wrong.verdict(), Verdict::Corrupt, "{wrong}");
    let mut parts = Vec::new();
    // Out of order, and one of them twice: the later one counts.
    store
        .put_part(&key, &upload, 3, Bytes::from_static(b"old").into(), Some(Crc64Nvme::of(b"old")))
        .await
        .unwrap();
    for number in [2, 3, 1] {
        let bytes = part(number);
        let crc = Crc64Nvme::of(&bytes);
        let number = u32::try_from(number).unwrap();
        let receipt =
            store.put_part(&key, &upload, number, chunked(&bytes, 100_000), Some(crc)).await.unwrap();
        parts.push(CompletedPart { number, etag: receipt.etag, crc64nvme: Some(crc) });
    }
    parts.sort_by_key(|part| part.number);

    let whole = Crc64Nvme::of(&bytes);
    let receipt = store.complete_multipart(&key, &upload, &parts, Some(whole)).await.unwrap();
    let head = store.head(&key).await.unwrap().unwrap();
    assert_eq!((receipt.crc64nvme, head.crc64nvme), (Some(whole), Some(whole)));
    assert_eq!((head.size, head.content_type.as_deref()), (size(&bytes), Some("video/mp4")));
    assert_eq!(head.metadata[metadata::NAME], "ä  b");
    assert_eq!(read(&store, &key, None).await.unwrap(), bytes);

    match store.complete_multipart(&key, &upload, &parts, Some(whole)).await {
        Ok(again) => assert_eq!(again, receipt),
        Err(error) => assert!(error.is_no_such_upload(), "{error}"),
    }
    store.abort_multipart(&key, &upload).await.unwrap();
    assert_eq!(store.head(&key).await.unwrap().unwrap().size, size(&bytes));
}

#[tokio::test]
async fn an_unchecked_upload_takes_parts_without_checksums() {
    let store = live_or_skip!();
    let (key, bytes) = (key("unchecked"), random(6 * MIB));
    let upload = store.create_unchecked_multipart(&key, &PutOptions::default()).await.unwrap();
    let mut parts = Vec::new();
    for (number, part) in [(1, bytes.slice(..5 * MIB)), (2, bytes.slice(5 * MIB..))] {
        let receipt = store.put_part(&key, &upload, number, chunked(&part, 100_000), None).await.unwrap();
        parts.push(CompletedPart { number, etag: receipt.etag, crc64nvme: None });
    }
    store.complete_multipart(&key, &upload, &parts, None).await.unwrap();
    assert_eq!(read(&store, &key, None).await.unwrap(), bytes);
}

/// An upload whose every part's checksum follows its bytes.
async fn put_parts_trailing(
    store: &Store,
    key: &ObjectKey,
    bytes: &Bytes,
    part_size: usize,
) -> Result<(UploadId, Vec<CompletedPart>), StoreError> {
    let upload = store.create_multipart(key, &PutOptions::default()).await?;
    let mut parts = Vec::new();
    for (number, part) in (1..).zip(bytes.chunks(part_size)) {
        let body = chunked(&bytes.slice_ref(part), 70_000);
        let receipt = store.put_part_trailing(key, &upload, number, body).await?;
        assert_eq!(receipt.crc64nvme, Some(Crc64Nvme::of(part)));
        parts.push(CompletedPart { number, etag: receipt.etag, crc64nvme: receipt.crc64nvme });
    }
    Ok((upload, parts))
}

#[tokio::test]
async fn parts_whose_checksum_follows_them_prove_the_whole() {
    let store = live_or_skip!();
    for length in [1, 64 * 1024, 5 * MIB + 1, 12 * MIB + 77] {
        let (key, bytes) = (key("trailing"), random(length));
        let (upload, parts) = put_parts_trailing(&store, &key, &bytes, 5 * MIB).await.unwrap();
        let whole = Crc64Nvme::of(&bytes);
        let receipt = store.complete_multipart(&key, &upload, &parts, Some(whole)).await.unwrap();
        let head = store.head(&key).await.unwrap().unwrap();
        assert_eq!((receipt.crc64nvme, head.crc64nvme), (Some(whole), Some(whole)));
        assert_eq!(head.size, size(&bytes));
        assert_eq!(read(&store, &key, None).await.unwrap(), bytes);
    }
}

#[tokio::test]
async fn parts_with_checksums_before_and_behind_them_make_one_object() {
    let store = live_or_skip!();
    let (key, bytes) = (key("mixed"), random(6 * MIB));
    let (upload, mut parts) =
        put_parts_trailing(&store, &key, &bytes.slice(..5 * MIB), 5 * MIB).await.unwrap();
    let (last, crc) = (bytes.slice(5 * MIB..), Crc64Nvme::of(&bytes[5 * MIB..]));
    let receipt = store.put_part(&key, &upload, 2, last.into(), Some(crc)).await.unwrap();
    parts.push(CompletedPart { number: 2, etag: receipt.etag, crc64nvme: Some(crc) });
    let whole = Crc64Nvme::of(&bytes);
    let receipt = store.complete_multipart(&key, &upload, &parts, Some(whole)).await.unwrap();
    assert_eq!(receipt.crc64nvme, Some(whole));
    assert_eq!(read(&store, &key, None).await.unwrap(), bytes);
}

/// Stands between client and server and puts `instead` in the place of `pattern` in every request.
async fn falsifier(pattern: Vec<u8>, instead: Vec<u8>) -> Store {
    let mut settings = settings().unwrap();
    let server = settings.endpoint.trim_start_matches("http://").to_owned();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    settings.endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = tokio::net::TcpStream::connect(&server).await.unwrap();
            tokio::spawn(falsify(client, server, pattern.clone(), instead.clone()));
        }
    });
    open(settings)
}

async fn falsify(
    client: tokio::net::TcpStream,
    server: tokio::net::TcpStream,
    pattern: Vec<u8>,
    instead: Vec<u8>,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
    loop {
        let mut request = Vec::new();
        let head = loop {
            if let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if from_client.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        };
        let text = String::from_utf8_lossy(&request[..head]).to_lowercase();
        let length: usize = text
            .split("\ncontent-length: ")
            .nth(1)
            .and_then(|rest| rest.lines().next()?.trim().parse().ok())
            .unwrap_or(0);
        while request.len() < head + length {
            if from_client.read_buf(&mut request).await? == 0 {
                return Ok(());
            }
        }
        if let Some(at) = request.windows(pattern.len()).position(|window| window == pattern) {
            request.splice(at..at + pattern.len(), instead.iter().copied());
        }
        to_server.write_all(&request).await?;
    }
}

#[tokio::test]
async fn what_changes_between_the_checksum_and_the_store_is_refused() {
    let _ = live_or_skip!();
    let mut bytes = random(300_000).to_vec();
    bytes[200_000..200_008].copy_from_slice(b"original");
    let bytes = Bytes::from(bytes);
    let right = Crc64Nvme::of(&bytes).base64().into_bytes();
    let wrong = Crc64Nvme::of(b"other").base64().into_bytes();
    for (pattern, instead) in [(b"original".to_vec(), b"originbl".to_vec()), (right, wrong)] {
        let store = falsifier(pattern, instead).await;
        let key = key("falsified");
        let upload = store.create_multipart(&key, &PutOptions::default()).await.unwrap();
        let error = store.put_part_trailing(&key, &upload, 1, chunked(&bytes, 9000)).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::Corrupt, "{error}");
        store.abort_multipart(&key, &upload).await.unwrap();
    }
}

#[tokio::test]
async fn a_source_that_fails_at_its_end_leaves_no_part() {
    let store = live_or_skip!();
    let key = key("broken");
    let upload = store.create_multipart(&key, &PutOptions::default()).await.unwrap();
    let bytes = random(100_000);
    let chunks = vec![Ok(bytes.clone()), Err(std::io::Error::other("hash differs"))];
    let body = Body::stream(size(&bytes), stream::iter(chunks));
    let error = store.put_part_trailing(&key, &upload, 1, body).await.unwrap_err();
    assert!(error.is_source(), "{error}");
    let parts = [CompletedPart {
        number: 1,
        etag: "d41d8cd98f00b204e9800998ecf8427e".to_owned(),
        crc64nvme: Some(Crc64Nvme::of(&bytes)),
    }];
    let error =
        store.complete_multipart(&key, &upload, &parts, Some(Crc64Nvme::of(&bytes))).await.unwrap_err();
    assert_eq!(error.verdict(), Verdict::Permanent, "{error}");
    assert_eq!(store.head(&key).await.unwrap(), None);
}

#[tokio::test]
async fn a_wrong_whole_is_refused_or_not_confirmed() {
    let store = live_or_skip!();
    let bytes = random(MIB);
    for trailing in [false, true] {
        let (key, crc) = (key("whole"), Crc64Nvme::of(&bytes));
        let upload = store.create_multipart(&key, &PutOptions::default()).await.unwrap();
        let receipt = if trailing {
            store.put_part_trailing(&key, &upload, 1, chunked(&bytes, 70_000)).await.unwrap()
        } else {
            store.put_part(&key, &upload, 1, bytes.clone().into(), Some(crc)).await.unwrap()
        };
        let parts = [CompletedPart { number: 1, etag: receipt.etag, crc64nvme: Some(crc) }];
        match store.complete_multipart(&key, &upload, &parts, Some(Crc64Nvme::of(b"other"))).await {
            Err(error) => {
                assert_eq!(error.verdict(), Verdict::Corrupt, "{error}");
            }
            // A server that checks nothing must at least not claim the wrong checksum as its own.
            Ok(receipt) => assert_eq!(receipt.crc64nvme, None),
        }
    }
}

#[tokio::test]
async fn an_aborted_upload_is_gone() {
    let store = live_or_skip!();
    let key = key("abort");
    let upload = store.create_unchecked_multipart(&key, &PutOptions::default()).await.unwrap();
    store.put_part(&key, &upload, 1, random(1000).into(), None).await.unwrap();
    store.abort_multipart(&key, &upload).await.unwrap();
    store.abort_multipart(&key, &upload).await.unwrap();
    assert_eq!(store.list_multipart_uploads(key.as_str()).await.unwrap(), []);
    let late = store.put_part(&key, &upload, 2, random(1000).into(), None).await.unwrap_err();
    assert!(late.is_no_such_upload(), "{late}");
    let parts = [CompletedPart { number: 1, etag: "0".repeat(32), crc64nvme: None }];
    let unknown = store.complete_multipart(&key, &upload, &parts, None).await.unwrap_err();
    assert!(unknown.is_no_such_upload(), "{unknown}");
    let bogus = UploadId::new("there-is-no-such-upload");
    store.abort_multipart(&key, &bogus).await.unwrap();
}

#[tokio::test]
async fn listings_come_in_order_page_by_page() {
    let store = live_or_skip!();
    let user = Uuid::now_v7();
    let mut keys: Vec<_> = (0..25).map(|i| ObjectKey::new(user, Uuid::now_v7(), &format!("{i}"))).collect();
    stream::iter(&keys)
        .for_each_concurrent(8, |key| async {
            store.put(key, Bytes::from_static(b"12345").into(), &PutOptions::default()).await.unwrap();
        })
        .await;
    keys.sort();
    let prefix = ObjectKey::prefix_of(user);
    let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
    loop {
        let ListPage { objects, next } = store.list(&prefix, after.as_deref(), 10).await.unwrap();
        assert!(objects.iter().all(|object| object.size == 5 && !object.etag.is_empty()));
        found.extend(objects.into_iter().map(|object| ObjectKey::parse(&object.key).unwrap()));
        pages += 1;
        after = next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, keys);
    assert_eq!(pages, 3);
    let nothing = store.list(&ObjectKey::prefix_of(Uuid::now_v7()), None, 10).await.unwrap();
    assert_eq!(nothing, ListPage { objects: vec![], next: None });
}

#[tokio::test]
async fn a_missing_bucket_is_never_taken_for_a_missing_object() {
    let Some(mut settings) = settings() else { return };
    settings.bucket = format!("missing-{}", Uuid::now_v7().simple());
    let store = open(settings);
    let key = key("x");
    let errors = [
        store.check().await.unwrap_err(),
        store.put(&key, Bytes::from_static(b"x").into(), &PutOptions::default()).await.unwrap_err(),
        store.get(&key, None).await.unwrap_err(),
        store.head(&key).await.unwrap_err(),
        store.create_multipart(&key, &PutOptions::default()).await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_no_such_bucket() && error.is_credentials(), "{error}");
        assert_eq!(error.verdict(), Verdict::Permanent);
    }
    match store.delete(&key).await {
        Ok(()) => {}
        Err(error) => assert!(error.is_no_such_bucket(), "{error}"),
    }
    store.ensure_bucket().await.unwrap();
    store.ensure_bucket().await.unwrap();
    assert_eq!(store.head(&key).await.unwrap(), None);
}

#[tokio::test]
async fn wrong_credentials_are_named() {
    let Some(right) = settings() else { return };
    let _ = live().await;
    let wrong_secret = StoreSettings { secret_key: "wrong".into(), ..right.clone() };
    let wrong_key = StoreSettings { access_key: "nobody".into(), ..right };
    for (settings, code) in [(wrong_secret, "SignatureDoesNotMatch"), (wrong_key, "InvalidAccessKeyId")] {
        let store = open(settings);
        let key = key("x");
        for error in [
            store.check().await.unwrap_err(),
            store.put(&key, random(400_000).into(), &PutOptions::default()).await.unwrap_err(),
            store.get(&key, None).await.unwrap_err(),
        ] {
            assert_eq!(error.code(), Some(code));
            assert!(error.is_credentials() && error.verdict() == Verdict::Permanent);
        }
        let head = store.head(&key).await.unwrap_err();
        assert!(head.is_credentials());
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the source's own trouble")]
struct Trouble;

#[tokio::test]
async fn a_failing_source_leaves_nothing_behind_and_is_told_apart() {
    let store = live_or_skip!();
    for good in [0, 1, 40] {
        let key = key("source");
        let chunks = (0..good).map(|_| Ok(random(50_000))).chain([Err(Trouble)]);
        // All bytes come, and only then the failure: as a hash that turns out wrong.
        let body =
            Body::stream(50_000 * u64::try_from(good).unwrap(), stream::iter(chunks.collect::<Vec<_>>()));
        let error = store.put(&key, body, &PutOptions::default()).await.unwrap_err();
        assert!(error.is_source() && !error.is_outage(), "{error}");
        assert!(error.into_source().unwrap().is::<Trouble>());
        assert_eq!(store.head(&key).await.unwrap(), None);
    }
    let (from, to) = (key("from"), key("to"));
    let missing = store.get(&from, None).await.unwrap_err();
    let body = Body::stream(5, stream::iter([Err(missing)]));
    let error = store.put(&to, body, &PutOptions::default()).await.unwrap_err();
    assert!(error.is_source() && error.verdict() == Verdict::SourceMissing, "{error}");
}

#[tokio::test]
async fn one_object_streams_from_store_to_store() {
    let store = live_or_skip!();
    let (from, to, bytes) = (key("from"), key("to"), random(40 * MIB));
    store.put(&from, bytes.clone().into(), &with_sha256(&bytes)).await.unwrap();
    let got = store.get(&from, None).await.unwrap();
    let receipt = store.put(&to, Body::stream(got.length, got.body), &with_sha256(&bytes)).await.unwrap();
    assert_eq!(receipt.sha256, Some(Sha256::of(&bytes)));
    assert_eq!(read(&store, &to, None).await.unwrap(), bytes);
}

#[tokio::test]
async fn presigned_urls_work_for_a_plain_client() {
    let store = live_or_skip!();
    let (key, bytes) = (key("sign ed.txt"), random(6 * MIB));
    let life = Duration::from_secs(60);
    let upload = store.create_unchecked_multipart(&key, &PutOptions::default()).await.unwrap();
    let client = reqwest::Client::new();
    let mut parts = Vec::new();
    for (number, part) in [(1, bytes.slice(..5 * MIB)), (2, bytes.slice(5 * MIB..))] {
        let url = store.presign_part(&key, &upload, number, life).await.unwrap();
        let answer = client.put(url).body(part).send().await.unwrap().error_for_status().unwrap();
        let etag = answer.headers()["etag"].to_str().unwrap().trim_matches('"').to_owned();
        parts.push(CompletedPart { number, etag, crc64nvme: None });
    }
    store.complete_multipart(&key, &upload, &parts, None).await.unwrap();
    let disposition = "attachment; filename=\"a b.txt\"; filename*=UTF-8''%C3%A4%20b.txt";
    let url = store.presign_get(&key, life, Some(disposition), Some("text/plain")).await.unwrap();
    let answer = client.get(url).send().await.unwrap().error_for_status().unwrap();
    assert_eq!(answer.headers()["content-disposition"], disposition);
    assert_eq!(answer.headers()["content-type"], "text/plain");
    assert_eq!(answer.bytes().await.unwrap(), bytes);
}

#[tokio::test]
async fn an_unreachable_store_is_an_outage() {
    let Some(settings) = settings() else { return };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let store = open(StoreSettings { endpoint, ..settings });
    for error in [store.check().await.unwrap_err(), store.get(&key("x"), None).await.unwrap_err()] {
        assert!(matches!(error.kind(), StoreErrorKind::Connect));
        assert!(error.is_outage() && error.verdict() == Verdict::Transient);
    }
}
