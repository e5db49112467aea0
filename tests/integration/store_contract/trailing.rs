//! Parts with trailing checksums, and sources that fail at their end.

use bytes::Bytes;
use futures_util::stream;
use nightferry_core::checksum::Crc64Nvme;
use nightferry_core::store::{
    Body, CompletedPart, ObjectKey, PutOptions, Store, StoreError, StoreSettings, UploadId, Verdict,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{MIB, chunked, contract, key, open, random, read, size};

contract! {
    parts_whose_checksum_follows_them_prove_the_whole,
    parts_with_checksums_before_and_behind_them_make_one_object,
    what_changes_between_the_checksum_and_the_store_is_refused,
    a_source_that_fails_at_its_end_leaves_no_part,
    a_wrong_whole_is_refused_or_not_confirmed,
}

/// An upload in which the checksum of every part follows its content.
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

/// A proxy that replaces `pattern` with `instead` in every request.
async fn falsifier(mut settings: StoreSettings, pattern: Vec<u8>, instead: Vec<u8>) -> Store {
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

pub(super) async fn parts_whose_checksum_follows_them_prove_the_whole(settings: StoreSettings) {
    let store = open(settings);
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

pub(super) async fn parts_with_checksums_before_and_behind_them_make_one_object(settings: StoreSettings) {
    let store = open(settings);
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

pub(super) async fn what_changes_between_the_checksum_and_the_store_is_refused(settings: StoreSettings) {
    let mut bytes = random(300_000).to_vec();
    bytes[200_000..200_008].copy_from_slice(b"original");
    let bytes = Bytes::from(bytes);
    let right = Crc64Nvme::of(&bytes).base64().into_bytes();
    let wrong = Crc64Nvme::of(b"other").base64().into_bytes();
    for (pattern, instead) in [(b"original".to_vec(), b"originbl".to_vec()), (right, wrong)] {
        let store = falsifier(settings.clone(), pattern, instead).await;
        let key = key("falsified");
        let upload = store.create_multipart(&key, &PutOptions::default()).await.unwrap();
        let error = store.put_part_trailing(&key, &upload, 1, chunked(&bytes, 9000)).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::Corrupt, "{error}");
        store.abort_multipart(&key, &upload).await.unwrap();
    }
}

pub(super) async fn a_source_that_fails_at_its_end_leaves_no_part(settings: StoreSettings) {
    let store = open(settings);
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

pub(super) async fn a_wrong_whole_is_refused_or_not_confirmed(settings: StoreSettings) {
    let store = open(settings);
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
            // A server that checks nothing must at least not report the wrong checksum as its own.
            Ok(receipt) => assert_eq!(receipt.crc64nvme, None),
        }
    }
}
