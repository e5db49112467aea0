//! Errors of a store, and their classification.

use bytes::Bytes;
use futures_util::stream;
use nightferry_core::store::{Body, PutOptions, StoreErrorKind, StoreSettings, Verdict};
use uuid::Uuid;

use super::{contract, key, open, random};

contract! {
    a_missing_bucket_is_never_taken_for_a_missing_object,
    wrong_credentials_are_named,
    a_failing_source_leaves_nothing_behind_and_is_told_apart,
    an_unreachable_store_is_an_outage,
}

/// Errors that only the source of a body can cause.
#[derive(Debug)]
struct Trouble;

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the source's own trouble")
    }
}

impl std::error::Error for Trouble {}

pub(super) async fn a_missing_bucket_is_never_taken_for_a_missing_object(settings: StoreSettings) {
    let mut settings = settings;
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

pub(super) async fn wrong_credentials_are_named(settings: StoreSettings) {
    let right = settings;
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
        // The response to HEAD has no code, so it does not show whether only this key is refused.
        assert!(head.is_credentials() || head.is_denied(), "{head}");
    }
}

pub(super) async fn a_failing_source_leaves_nothing_behind_and_is_told_apart(settings: StoreSettings) {
    let store = open(settings);
    for good in [0, 1, 40] {
        let key = key("source");
        let chunks = (0..good).map(|_| Ok(random(50_000))).chain([Err(Trouble)]);
        // The failure comes after all bytes, as for a hash that does not match.
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

pub(super) async fn an_unreachable_store_is_an_outage(settings: StoreSettings) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let store = open(StoreSettings { endpoint, ..settings });
    for error in [store.check().await.unwrap_err(), store.get(&key("x"), None).await.unwrap_err()] {
        assert!(matches!(error.kind(), StoreErrorKind::Connect));
        assert!(error.is_outage() && error.verdict() == Verdict::Transient);
    }
}
