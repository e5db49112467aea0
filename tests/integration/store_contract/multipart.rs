//! Multipart uploads.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use nightferry_core::checksum::Crc64Nvme;
use nightferry_core::store::{CompletedPart, PutOptions, StoreSettings, UploadId, Verdict, metadata};

use super::{MIB, chunked, contract, key, open, random, read, size};

contract! {
    parts_are_checked_one_by_one_and_as_a_whole,
    an_unchecked_upload_takes_parts_without_checksums,
    an_aborted_upload_is_gone,
    unfinished_uploads_are_listed_page_by_page,
    presigned_urls_work_for_a_plain_client,
}

pub(super) async fn parts_are_checked_one_by_one_and_as_a_whole(settings: StoreSettings) {
    let store = open(settings);
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
    // Out of order, and one of them twice: the later one is used.
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

pub(super) async fn an_unchecked_upload_takes_parts_without_checksums(settings: StoreSettings) {
    let store = open(settings);
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

pub(super) async fn unfinished_uploads_are_listed_page_by_page(settings: StoreSettings) {
    let store = open(settings);
    let key = key("pages");
    let mut begun = Vec::new();
    for _ in 0..3 {
        begun.push(store.create_multipart(&key, &PutOptions::default()).await.unwrap());
    }

    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_multipart_uploads_page(key.as_str(), after.as_ref(), 2).await.unwrap();
        found.extend(page.uploads.into_iter().map(|upload| upload.upload_id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }

    for upload in &begun {
        assert_eq!(found.iter().filter(|found| *found == upload).count(), 1, "{found:?}");
        store.abort_multipart(&key, upload).await.unwrap();
    }
    assert_eq!(found.len(), 3);
}

pub(super) async fn an_aborted_upload_is_gone(settings: StoreSettings) {
    let store = open(settings);
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

pub(super) async fn presigned_urls_work_for_a_plain_client(settings: StoreSettings) {
    let store = open(settings);
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
