//! An encrypted object in a store, looked at without a catalogue: opened with the operator's key, read and hashed.
//!
//! What stands beside it was perhaps written by somebody else. The seal cannot be: it opens with the operator's key only,
//! and for this object only, so the hash in it is the object's. That the bytes have this hash shows when they are read, each
//! chunk proved by its tag and the whole by the hash; nothing less gives the checksum of the plain bytes either, which stands
//! nowhere in the open.

use chrono::{DateTime, Utc};

use super::look::{Bytes, hashed};
use crate::encryption::{Seal, plain_size};
use crate::object::crypto::{self, ObjectRef};
use crate::retry::{self, RetryPolicy};
use crate::store::{ObjectHead, ObjectKey, Store, StoreError, Verdict};

/// Whether an object says that it is encrypted.
pub(super) fn is_sealed(head: &ObjectHead) -> bool {
    head.metadata.contains_key(Seal::KEY_ID) || head.metadata.contains_key(Seal::ENVELOPE)
}

/// What the bytes are in the clear; or why nobody can tell.
pub(super) async fn bytes(
    store: &Store,
    key: &ObjectKey,
    head: &ObjectHead,
    now: DateTime<Utc>,
) -> Result<Result<Bytes, String>, StoreError> {
    let Some(seal) = Seal::from_metadata(&head.metadata) else {
        return Ok(Err("it is encrypted, and its seal cannot be read".to_owned()));
    };
    let Some(size) = plain_size(head.size) else {
        return Ok(Err(format!("it is encrypted, and no encrypted object has {} bytes", head.size)));
    };
    let sha256 = match crypto::envelope_sha256(store, key, &seal) {
        Ok(sha256) => sha256,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let read = || async {
        let wanted = ObjectRef { key, size, seal: Some(&seal) };
        hashed(crypto::read(store, wanted, None).await?.body).await
    };
    let digest = match retry::retry(&RetryPolicy::default(), read, StoreError::retry).await {
        Ok(digest) => digest,
        Err(error) if error.is_archived() => {
            return Ok(Err(
                "it is encrypted and archived: have it restored, then rebuild once more".to_owned()
            ));
        }
        Err(error) if error.is_key_missing() || error.verdict() == Verdict::Corrupt => {
            return Ok(Err(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    if (digest.size, digest.sha256) != (size, sha256) {
        return Ok(Err("its bytes are not those that its seal tells of".to_owned()));
    }
    Ok(Ok(Bytes::read(&digest, Some(seal), now)))
}
