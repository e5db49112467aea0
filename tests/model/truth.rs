//! The actual content of the stores, bypassing the proxies, and modifications from outside.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::Duration;
use futures_util::StreamExt as _;
use nightferry_core::checksum::{Sha256, Sha256Hasher};
use nightferry_core::store::{CANARY_PREFIX, IDENTITY_KEY, ObjectKey, PutOptions, Store};
use nightferry_tests::harness::World;
use nightferry_tests::harness::memory_s3::{Event, MemoryS3};

use crate::op::Place;

/// The contents of a store except its identity and canaries: keys and hashes.
pub(crate) type Contents = BTreeMap<String, Sha256>;

/// Whether a key is neither that of the identity nor that of a canary.
fn is_file(key: &str) -> bool {
    key != IDENTITY_KEY && !key.starts_with(CANARY_PREFIX)
}

/// One store.
pub(crate) enum StoreContents<'w> {
    Memory(&'w MemoryS3),
    Real(&'w Store),
}

impl<'w> StoreContents<'w> {
    pub(crate) fn of(world: &'w World, place: Place) -> Self {
        match (&world.memory, place) {
            (Some([local, _]), Place::Local) => Self::Memory(local),
            (Some([_, cloud]), Place::Cloud) => Self::Memory(cloud),
            (None, place) => Self::Real(world.direct.get(place.name()).unwrap()),
        }
    }

    pub(crate) async fn contents(&self) -> Contents {
        match self {
            Self::Memory(store) => {
                let objects = store.objects().into_iter().filter(|(key, _)| is_file(key));
                objects.map(|(key, kept)| (key, kept.sha256)).collect()
            }
            Self::Real(store) => {
                let page = store.list("", None, 1000).await.unwrap();
                let mut contents = Contents::new();
                for object in page.objects.into_iter().filter(|object| is_file(&object.key)) {
                    let key = ObjectKey::parse(&object.key).unwrap();
                    let mut body = store.get(&key, None).await.unwrap().body;
                    let mut hasher = Sha256Hasher::new();
                    while let Some(chunk) = body.next().await {
                        hasher.update(&chunk.unwrap());
                    }
                    contents.insert(object.key, hasher.finish());
                }
                contents
            }
        }
    }

    /// Unfinished multipart uploads: ids and keys. Those of the real servers are checked by the harness.
    pub(crate) fn uploads(&self) -> BTreeMap<String, String> {
        match self {
            Self::Memory(store) => store.uploads().into_iter().filter(|(_, key)| is_file(key)).collect(),
            Self::Real(_) => BTreeMap::new(),
        }
    }

    /// What has happened since the last call. The real servers record nothing.
    pub(crate) fn take_events(&self) -> Vec<Event> {
        match self {
            Self::Memory(store) => store.take_events(),
            Self::Real(_) => Vec::new(),
        }
    }

    /// Writes an object as if it had this age, if the store supports that.
    pub(crate) async fn place(&self, key: &str, bytes: Bytes, age: Duration) {
        match self {
            Self::Memory(store) => store.place(key, bytes, age),
            Self::Real(store) => {
                let key = ObjectKey::parse(key).unwrap();
                store.put(&key, bytes.into(), &PutOptions::default()).await.unwrap();
            }
        }
    }

    pub(crate) async fn remove(&self, key: &str) {
        match self {
            Self::Memory(store) => store.remove(key),
            Self::Real(store) => store.delete(&ObjectKey::parse(key).unwrap()).await.unwrap(),
        }
    }

    pub(crate) async fn clear(&self) {
        match self {
            Self::Memory(store) => store.clear(),
            Self::Real(_) => {
                for key in self.contents().await.into_keys() {
                    self.remove(&key).await;
                }
            }
        }
    }
}
