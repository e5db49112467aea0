//! The store contract: requirements on every S3 server, tested against the servers of this test run: the local store,
//! and the cloud store if it is other software. Each test has its own bucket.

mod errors;
mod multipart;
mod objects;
mod trailing;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use nightferry_core::checksum::Sha256;
use nightferry_core::store::{
    Body, ByteRange, CONNECT_DEADLINE, Deadlines, HttpClient, ObjectKey, PutOptions, Store, StoreError,
    StoreRole, StoreSettings,
};
use nightferry_tests::harness::servers::{S3, servers};
use uuid::Uuid;

const MIB: usize = 1024 * 1024;

/// Creates a test of each function for each server.
macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod local {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(crate::store_contract::local().await).await;
                }
            )*
        }
        mod cloud {
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    if let Some(settings) = crate::store_contract::cloud().await {
                        super::$name(settings).await;
                    }
                }
            )*
        }
    };
}
use contract;

async fn local() -> StoreSettings {
    with_bucket(&servers().await.local).await
}

/// None if it is the same software as the local store: one run is enough.
async fn cloud() -> Option<StoreSettings> {
    let servers = servers().await;
    if servers.cloud.kind == servers.local.kind {
        return None;
    }
    Some(with_bucket(&servers.cloud).await)
}

async fn with_bucket(server: &S3) -> StoreSettings {
    let settings = StoreSettings {
        name: "tried".parse().unwrap(),
        role: StoreRole::Local,
        endpoint: server.endpoint(),
        public_endpoint: None,
        region: "us-east-1".to_owned(),
        bucket: server.fresh_bucket_name(),
        access_key: server.access_key.into(),
        secret_key: server.secret_key.into(),
        session_token: None,
        path_style: true,
        storage_class: None,
        keys: None,
        deadlines: Deadlines::default(),
    };
    open(settings.clone()).ensure_bucket().await.unwrap();
    settings
}

fn open(settings: StoreSettings) -> Store {
    Store::open(settings, &HttpClient::new(CONNECT_DEADLINE).unwrap()).unwrap()
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
