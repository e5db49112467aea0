//! Neutral probes: whether a store that denied access to one object denies it to the marker of the store, or to a key
//! that belongs to no file. Only then does the denial concern the whole store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Mutex as AsyncMutex;
use uuid::Uuid;

use crate::checksum::Sha256;
use crate::store::{ObjectKey, PutOptions, Store, StoreError};

/// Timeout of a probe.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long the result of a probe is used: many copies can be denied at once. Short, because permissions that are revoked
/// right after a successful probe would otherwise fail files.
const TTL: Duration = Duration::from_secs(1);

/// What a store does with requests for a neutral key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// It accepts them: the denial concerns only some objects.
    Accepts,
    /// It refuses them too: the denial concerns the whole store.
    Refuses,
    /// It did not respond as expected.
    Unknown,
}

/// A store, and whether it is probed with a write.
type Kind = (String, bool);

/// The last result, and when it was determined. Locked during a probe.
type Known = Arc<AsyncMutex<Option<(Instant, Probed)>>>;

/// The results of recent probes. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Probes(Arc<Mutex<BTreeMap<Kind, Known>>>);

impl Probes {
    /// Probes `store`, which denied the request of this error, with a request of the same kind: after a denied read with
    /// HEAD of the marker, after a denied write with PUT and DELETE of a few bytes under a key that belongs to no file.
    /// Recent results are used again.
    pub async fn probe(&self, store: &Store, denied: &StoreError) -> Probed {
        let writes = denied.is_write();
        let entry = (store.name().to_string(), writes);
        let known = Arc::clone(self.0.lock().entry(entry).or_default());
        // Others that are denied at the same time wait for this probe.
        let mut known = known.lock().await;
        if let Some((at, probed)) = *known
            && at.elapsed() < TTL
        {
            return probed;
        }
        let key = ObjectKey::new(Uuid::nil(), Uuid::now_v7(), "store-probe");
        let probing = async { if writes { write(store, &key).await } else { read(store, &key).await } };
        let probed = match tokio::time::timeout(DEADLINE, probing).await {
            Ok(Ok(())) => Probed::Accepts,
            Ok(Err(error)) if error.is_denied() || error.is_credentials() => Probed::Refuses,
            Ok(Err(_)) | Err(_) => Probed::Unknown,
        };
        tracing::info!(store = %store.name(), %denied, ?probed, "probed a store that denied access to an object");
        // An uncertain result is not used again.
        *known = (probed != Probed::Unknown).then(|| (Instant::now(), probed));
        probed
    }
}

/// Reads the marker, which exists: without the permission to list, S3 denies access to keys that do not exist. An access
/// key that may only read the objects of files is probed with `key`.
async fn read(store: &Store, key: &ObjectKey) -> Result<(), StoreError> {
    match store.head(&ObjectKey::of_identity()).await {
        Err(error) if error.is_denied() => store.head(key).await.map(|_| ()),
        found => found.map(|_| ()),
    }
}

async fn write(store: &Store, key: &ObjectKey) -> Result<(), StoreError> {
    let content = Bytes::from_static(b"nightferry store probe\n");
    let options = PutOptions { sha256: Some(Sha256::of(&content)), ..PutOptions::default() };
    let written = store.put(key, content.into(), &options).await;
    // Also after a failure: its response may have been lost after the object was stored.
    if written.as_ref().err().is_none_or(|error| !error.is_denied())
        && let Err(error) = store.delete(key).await
    {
        tracing::warn!(store = %store.name(), %key, %error, "cannot delete the object of a probe");
    }
    written.map(|_| ())
}
