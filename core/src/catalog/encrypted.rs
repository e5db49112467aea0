//! Examines an encrypted object without a catalogue: decrypts it with the operator's key and hashes it.
//!
//! The object's metadata may have been written by anyone, except for the envelope: it can be decrypted only with the
//! operator's key, and only for this object, so the hash in it is authentic. Whether the content has this hash is known
//! only after reading it, with each chunk authenticated by its tag and the whole by the hash; this also computes the
//! checksum of the plaintext, which is stored nowhere unencrypted.

use chrono::{DateTime, Utc};

use super::examine::{Bytes, hashed};
use crate::encryption::{EncryptionEnvelope, plain_size};
use crate::object::crypto::{self, ObjectRef};
use crate::retry::{self, RetryPolicy};
use crate::store::{ObjectHead, ObjectKey, Store, StoreError, Verdict};

/// Whether the metadata of an object marks it as encrypted.
pub(super) fn is_encrypted(head: &ObjectHead) -> bool {
    head.metadata.contains_key(EncryptionEnvelope::KEY_ID)
        || head.metadata.contains_key(EncryptionEnvelope::ENVELOPE)
}

/// The properties of the plaintext; or why they cannot be determined.
pub(super) async fn bytes(
    store: &Store,
    key: &ObjectKey,
    head: &ObjectHead,
    now: DateTime<Utc>,
) -> Result<Result<Bytes, String>, StoreError> {
    let Some(envelope) = EncryptionEnvelope::from_metadata(&head.metadata) else {
        return Ok(Err("it is encrypted, and its envelope is invalid".to_owned()));
    };
    let Some(size) = plain_size(head.size) else {
        return Ok(Err(format!("it is encrypted, and no encrypted object has {} bytes", head.size)));
    };
    let sha256 = match crypto::envelope_sha256(store, key, &envelope) {
        Ok(sha256) => sha256,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let read = || async {
        let wanted = ObjectRef { key, size, envelope: Some(&envelope) };
        hashed(crypto::read(store, wanted, None).await?.body).await
    };
    let digest = match retry::retry(&RetryPolicy::default(), read, StoreError::retry).await {
        Ok(digest) => digest,
        Err(error) if error.is_archived() => {
            return Ok(Err("it is encrypted and archived: restore it, then rebuild again".to_owned()));
        }
        Err(error) if error.is_key_missing() || error.verdict() == Verdict::Corrupt => {
            return Ok(Err(error.to_string()));
        }
        Err(error) => return Err(error),
    };
    if (digest.size, digest.sha256) != (size, sha256) {
        return Ok(Err("its content does not match its envelope".to_owned()));
    }
    Ok(Ok(Bytes::read(&digest, Some(envelope), now)))
}
