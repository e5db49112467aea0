//! Whole objects: written, read, listed, inspected, deleted, rejected.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use nightferry_core::checksum::{Crc64Nvme, Sha256};
use nightferry_core::store::{
    BatchDeletion, Body, ByteRange, DELETE_LIMIT, ListPage, ObjectKey, PutOptions, StoreSettings, Verdict,
    metadata,
};
use uuid::Uuid;

use super::{MIB, chunked, contract, key, open, random, read, size, with_sha256};

contract! {
    what_was_put_is_read_inspected_and_deleted,
    ranges_are_exact,
    other_bytes_than_promised_are_refused,
    metadata_carries_any_text,
    listings_come_in_order_page_by_page,
    one_object_streams_from_store_to_store,
    several_objects_are_deleted_with_one_request,
}

pub(super) async fn several_objects_are_deleted_with_one_request(settings: StoreSettings) {
    let store = open(settings);
    let keys: Vec<ObjectKey> = (0..DELETE_LIMIT).map(|number| key(&format!("{number}-a.b_c"))).collect();
    let (stored, kept) = (&keys[..5], key("kept"));
    for key in stored.iter().chain([&kept]) {
        let bytes = random(100);
        store.put(key, bytes.clone().into(), &with_sha256(&bytes)).await.unwrap();
    }

    // All others are missing, which is not an error.
    let deleted = store.delete_batch(&keys).await.unwrap();

    assert!(matches!(&deleted, BatchDeletion::Done(failed) if failed.is_empty()), "{deleted:?}");
    assert!(store.deletes_in_batches());
    for key in stored {
        assert!(store.head(key).await.unwrap().is_none());
    }
    assert!(store.head(&kept).await.unwrap().is_some());
}

pub(super) async fn what_was_put_is_read_inspected_and_deleted(settings: StoreSettings) {
    let store = open(settings);
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

pub(super) async fn ranges_are_exact(settings: StoreSettings) {
    let store = open(settings);
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

pub(super) async fn other_bytes_than_promised_are_refused(settings: StoreSettings) {
    let store = open(settings);
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

pub(super) async fn metadata_carries_any_text(settings: StoreSettings) {
    let store = open(settings);
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

pub(super) async fn listings_come_in_order_page_by_page(settings: StoreSettings) {
    let store = open(settings);
    let user = Uuid::now_v7();
    let mut keys: Vec<_> = (0..25).map(|i| ObjectKey::new(user, Uuid::now_v7(), &format!("{i}"))).collect();
    stream::iter(&keys)
        .for_each_concurrent(8, |key| async {
            store.put(key, Bytes::from_static(b"12345").into(), &PutOptions::default()).await.unwrap();
        })
        .await;
    keys.sort();
    let prefix = format!("user-{user}/");
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
    let nothing = store.list(&format!("user-{}/", Uuid::now_v7()), None, 10).await.unwrap();
    assert_eq!(nothing, ListPage { objects: vec![], next: None });
}

pub(super) async fn one_object_streams_from_store_to_store(settings: StoreSettings) {
    let store = open(settings);
    let (from, to, bytes) = (key("from"), key("to"), random(40 * MIB));
    store.put(&from, bytes.clone().into(), &with_sha256(&bytes)).await.unwrap();
    let got = store.get(&from, None).await.unwrap();
    let receipt = store.put(&to, Body::stream(got.length, got.body), &with_sha256(&bytes)).await.unwrap();
    assert_eq!(receipt.sha256, Some(Sha256::of(&bytes)));
    assert_eq!(read(&store, &to, None).await.unwrap(), bytes);
}
