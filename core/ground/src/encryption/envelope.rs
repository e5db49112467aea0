//! The encryption envelope of an object: the id of the operator's key, and the object's random data key encrypted under
//! it, together with the SHA-256 of the plaintext. It is stored in the replica's row and in the object's metadata, so
//! that either is sufficient to decrypt the object with the operator's key.

use std::collections::BTreeMap;
use std::fmt;

use aes_gcm_siv::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox};

use super::key::{KEY_BYTES, Keyring, MasterKey};
use crate::checksum::Sha256;

/// Version byte of an envelope: AES-256-GCM-SIV, STREAM with a 32-bit big-endian counter, chunks of 64 KiB.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
/// Prefix of the additional data, followed by the object key: an envelope is valid for one object only.
const CONTEXT: &[u8] = b"nightferry object envelope 1\0";

/// The envelope stored with an encrypted object. Useless without the operator's key.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptionEnvelope {
    /// Id of the operator's key.
    pub key_id: String,
    /// The data key and the SHA-256 of the plaintext, encrypted with that key.
    pub wrapped_key: Vec<u8>,
}

impl fmt::Debug for EncryptionEnvelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncryptionEnvelope({})", self.key_id)
    }
}

/// The data key of one object. Not printable.
#[derive(Debug)]
pub struct DataKey(SecretBox<[u8; KEY_BYTES]>);

impl DataKey {
    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.0.expose_secret()
    }
}

/// The content of an envelope.
#[derive(Debug)]
pub struct Contents {
    /// The data key.
    pub data_key: DataKey,
    /// SHA-256 of the plaintext.
    pub sha256: Sha256,
}

/// Why an envelope cannot be decrypted. These errors do not concern the content of the object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The key is not configured.
    #[error("it is encrypted with the key \"{0}\", which is not configured")]
    UnknownKey(String),
    /// A key with this id is configured, but it is a different key.
    #[error(
        "the configured key \"{0}\" is not the one that it was encrypted with, or its envelope is \
        damaged"
    )]
    WrongKey(String),
    /// Unknown format: written by a later version, or damaged.
    #[error("its envelope has a format that this version does not support")]
    Form,
}

impl EncryptionEnvelope {
    /// Names of the two metadata entries.
    pub const KEY_ID: &'static str = "nf-key";
    /// See [`EncryptionEnvelope::KEY_ID`].
    pub const ENVELOPE: &'static str = "nf-envelope";

    /// Parses the output of [`EncryptionEnvelope::to_metadata`]. `None` if absent or invalid.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Option<Self> {
        let wrapped_key = BASE64.decode(metadata.get(Self::ENVELOPE)?).ok()?;
        Some(Self { key_id: metadata.get(Self::KEY_ID)?.clone(), wrapped_key })
    }

    /// The metadata of the object.
    pub fn to_metadata(&self) -> [(&'static str, String); 2] {
        [(Self::KEY_ID, self.key_id.clone()), (Self::ENVELOPE, BASE64.encode(&self.wrapped_key))]
    }

    /// From the columns of a row, which are either both set or both NULL.
    pub fn from_columns(key_id: Option<String>, envelope: Option<Vec<u8>>) -> Option<Self> {
        Some(Self { key_id: key_id?, wrapped_key: envelope? })
    }
}

impl Keyring {
    /// A new data key for the object stored under `object_key` whose plaintext has the hash `sha256`, and its envelope
    /// under the active key. `None` if encryption is off.
    ///
    /// # Errors
    /// The random number generator failed.
    pub fn new_envelope(
        &self,
        object_key: &str,
        sha256: &Sha256,
    ) -> Result<Option<(EncryptionEnvelope, Contents)>, rand::rand_core::OsError> {
        use rand::TryRngCore as _;
        let Some(master) = self.active() else { return Ok(None) };
        let mut data_key = SecretBox::new(Box::new([0; KEY_BYTES]));
        rand::rngs::OsRng.try_fill_bytes(data_key.expose_secret_mut())?;
        let mut nonce = [0; NONCE_BYTES];
        rand::rngs::OsRng.try_fill_bytes(&mut nonce)?;
        let contents = Contents { data_key: DataKey(data_key), sha256: *sha256 };
        let wrapped_key = wrap(master, &nonce, object_key, &contents);
        let envelope = EncryptionEnvelope { key_id: master.id().to_string(), wrapped_key };
        Ok(Some((envelope, contents)))
    }

    /// Decrypts the envelope of the object stored under `object_key`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, envelope: &EncryptionEnvelope, object_key: &str) -> Result<Contents, OpenError> {
        let master =
            self.get(&envelope.key_id).ok_or_else(|| OpenError::UnknownKey(envelope.key_id.clone()))?;
        let rest = envelope.wrapped_key.strip_prefix(&[VERSION]).ok_or(OpenError::Form)?;
        let (nonce, encrypted) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Form)?;
        let payload = Payload { msg: encrypted, aad: &context_of(object_key) };
        let opened = cipher(master).decrypt(&Nonce::from(*nonce), payload);
        let opened =
            SecretBox::new(Box::new(opened.map_err(|_| OpenError::WrongKey(envelope.key_id.clone()))?));
        let (key, hash) = opened.expose_secret().split_first_chunk::<KEY_BYTES>().ok_or(OpenError::Form)?;
        let sha256 = Sha256::try_from(hash).map_err(|_| OpenError::Form)?;
        Ok(Contents { data_key: DataKey(SecretBox::new(Box::new(*key))), sha256 })
    }
}

fn cipher(master: &MasterKey) -> Aes256GcmSiv {
    Aes256GcmSiv::new(master.bytes().into())
}

fn context_of(object_key: &str) -> Vec<u8> {
    [CONTEXT, object_key.as_bytes()].concat()
}

fn wrap(master: &MasterKey, nonce: &[u8; NONCE_BYTES], object_key: &str, contents: &Contents) -> Vec<u8> {
    let mut plain: SecretBox<Vec<u8>> = SecretBox::new(Box::new(Vec::with_capacity(2 * KEY_BYTES)));
    plain.expose_secret_mut().extend_from_slice(contents.data_key.bytes());
    plain.expose_secret_mut().extend_from_slice(contents.sha256.as_bytes());
    let payload = Payload { msg: plain.expose_secret(), aad: &context_of(object_key) };
    // Only a message of 64 GiB cannot be encrypted (RFC 8452 section 6); this one has 64 bytes.
    let encrypted = cipher(master).encrypt(&Nonce::from(*nonce), payload).unwrap_or_default();
    [&[VERSION], nonce.as_slice(), &encrypted].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn ring(ids: &[&str], encrypts: bool) -> Keyring {
        let lines = ids.iter().zip(1..).map(|(id, byte)| format!("{id}:{}", BASE64.encode([byte; 32])));
        Keyring::parse(&lines.collect::<Vec<_>>().join("\n"), encrypts).unwrap()
    }

    #[test]
    fn an_envelope_decrypts_only_with_its_key_and_for_its_object() {
        let sha256 = Sha256::of(b"plain");
        let (envelope, made) = ring(&["a"], true).new_envelope("user-1/x", &sha256).unwrap().unwrap();
        let (other, _) = ring(&["a"], true).new_envelope("user-1/x", &sha256).unwrap().unwrap();
        assert_ne!(envelope, other, "every envelope contains a separate key");
        assert_eq!(envelope.wrapped_key.len(), 1 + 12 + 64 + 16);
        assert!(
            !envelope
                .wrapped_key
                .windows(32)
                .any(|bytes| bytes == sha256.as_bytes() || bytes == made.data_key.bytes())
        );

        let opened = ring(&["a", "b"], false).open(&envelope, "user-1/x").unwrap();
        assert_eq!((opened.sha256, opened.data_key.bytes()), (sha256, made.data_key.bytes()));
        assert_eq!(
            ring(&["b"], true).open(&envelope, "user-1/x").unwrap_err(),
            OpenError::UnknownKey("a".to_owned())
        );
        assert_eq!(
            ring(&["z", "a"], true).open(&envelope, "user-1/x").unwrap_err(),
            OpenError::WrongKey("a".to_owned())
        );
        assert_eq!(
            ring(&["a"], true).open(&envelope, "user-1/y").unwrap_err(),
            OpenError::WrongKey("a".to_owned())
        );
        for at in 0..envelope.wrapped_key.len() {
            let mut damaged = envelope.clone();
            damaged.wrapped_key[at] ^= 1;
            assert!(ring(&["a"], true).open(&damaged, "user-1/x").is_err(), "byte {at}");
        }
        for length in [0, 1, 12, 13, 28] {
            let cut = EncryptionEnvelope {
                wrapped_key: envelope.wrapped_key[..length].to_vec(),
                ..envelope.clone()
            };
            assert!(ring(&["a"], true).open(&cut, "user-1/x").is_err(), "{length} bytes");
        }
    }

    #[test]
    fn an_envelope_round_trips_through_metadata() {
        let (envelope, _) = ring(&["a"], true).new_envelope("k", &Sha256::of(b"")).unwrap().unwrap();
        let metadata: BTreeMap<String, String> =
            envelope.to_metadata().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(EncryptionEnvelope::from_metadata(&metadata), Some(envelope));
        assert_eq!(EncryptionEnvelope::from_metadata(&BTreeMap::new()), None);
    }

    #[test]
    fn nothing_is_encrypted_if_existing_objects_are_only_decrypted() {
        assert!(ring(&["a"], false).new_envelope("k", &Sha256::of(b"")).unwrap().is_none());
    }
}
