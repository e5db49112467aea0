//! The seal of an object: the name of the operator's key, and the object's own random key sealed under it, together with
//! the SHA-256 of the plain bytes. It stands in the replica's row and in the object's metadata, so that neither the
//! database nor the store alone is needed to open the object; the operator's key always is.

use std::collections::BTreeMap;
use std::fmt;

use aes_gcm_siv::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox};

use super::key::{KEY_BYTES, Keyring, MasterKey};
use crate::checksum::Sha256;

/// First byte of an envelope: AES-256-GCM-SIV, STREAM with a 32-bit big-endian counter, chunks of 64 KiB.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
/// What the envelope's tag also covers, before the object's key in the stores: an envelope fits one object only.
const CONTEXT: &[u8] = b"nightferry object envelope 1\0";

/// What is kept beside an encrypted object. Useless without the operator's key.
#[derive(Clone, PartialEq, Eq)]
pub struct Seal {
    /// Name of the operator's key.
    pub key_id: String,
    /// The object's own key and the SHA-256 of its plain bytes, sealed.
    pub envelope: Vec<u8>,
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal({})", self.key_id)
    }
}

/// The key of one object, used for nothing else. Does not print.
pub struct DataKey(SecretBox<[u8; KEY_BYTES]>);

impl DataKey {
    pub(super) fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.0.expose_secret()
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

/// What a seal holds.
#[derive(Debug)]
pub struct Contents {
    /// The object's own key.
    pub data_key: DataKey,
    /// SHA-256 of the plain bytes.
    pub sha256: Sha256,
}

/// Why a seal cannot be opened. None of these says anything about the object's bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The key is not among those that are configured.
    #[error("it is encrypted with the key \"{0}\", which is not configured")]
    UnknownKey(String),
    /// A key of this name is configured, but did not seal this.
    #[error("the configured key \"{0}\" is not the one that it was encrypted with, or its seal was damaged")]
    WrongKey(String),
    /// Written by a later version, or damaged.
    #[error("its seal is of a form that this version does not know")]
    Form,
}

impl Seal {
    /// Metadata names of the two parts.
    pub const KEY_ID: &'static str = "nf-key";
    /// See [`Seal::KEY_ID`].
    pub const ENVELOPE: &'static str = "nf-envelope";

    /// Reads what [`Seal::to_metadata`] writes. None when there is none, or none that can be read.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Option<Self> {
        let envelope = BASE64.decode(metadata.get(Self::ENVELOPE)?).ok()?;
        Some(Self { key_id: metadata.get(Self::KEY_ID)?.clone(), envelope })
    }

    /// As it goes with the object.
    pub fn to_metadata(&self) -> [(&'static str, String); 2] {
        [(Self::KEY_ID, self.key_id.clone()), (Self::ENVELOPE, BASE64.encode(&self.envelope))]
    }

    /// From the columns of a row, which are both set or both not.
    pub fn from_columns(key_id: Option<String>, envelope: Option<Vec<u8>>) -> Option<Self> {
        Some(Self { key_id: key_id?, envelope: envelope? })
    }
}

impl Keyring {
    /// A new key for the object that is stored under `object_key` and whose plain bytes hash to `sha256`, and its seal
    /// under the active key. None when nothing is to be encrypted.
    ///
    /// # Errors
    /// The operating system gives no randomness.
    pub fn seal(
        &self,
        object_key: &str,
        sha256: &Sha256,
    ) -> Result<Option<(Seal, Contents)>, rand::rand_core::OsError> {
        use rand::TryRngCore as _;
        let Some(master) = self.active() else { return Ok(None) };
        let mut data_key = SecretBox::new(Box::new([0; KEY_BYTES]));
        rand::rngs::OsRng.try_fill_bytes(data_key.expose_secret_mut())?;
        let mut nonce = [0; NONCE_BYTES];
        rand::rngs::OsRng.try_fill_bytes(&mut nonce)?;
        let contents = Contents { data_key: DataKey(data_key), sha256: *sha256 };
        let envelope = enclose(master, &nonce, object_key, &contents);
        let seal = Seal { key_id: master.id().to_string(), envelope };
        Ok(Some((seal, contents)))
    }

    /// Opens the seal of the object that is stored under `object_key`.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub fn open(&self, seal: &Seal, object_key: &str) -> Result<Contents, OpenError> {
        let master = self.get(&seal.key_id).ok_or_else(|| OpenError::UnknownKey(seal.key_id.clone()))?;
        let rest = seal.envelope.strip_prefix(&[VERSION]).ok_or(OpenError::Form)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Form)?;
        let payload = Payload { msg: sealed, aad: &context_of(object_key) };
        let opened = cipher(master).decrypt(&Nonce::from(*nonce), payload);
        let opened = SecretBox::new(Box::new(opened.map_err(|_| OpenError::WrongKey(seal.key_id.clone()))?));
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

fn enclose(master: &MasterKey, nonce: &[u8; NONCE_BYTES], object_key: &str, contents: &Contents) -> Vec<u8> {
    let mut plain: SecretBox<Vec<u8>> = SecretBox::new(Box::new(Vec::with_capacity(2 * KEY_BYTES)));
    plain.expose_secret_mut().extend_from_slice(contents.data_key.bytes());
    plain.expose_secret_mut().extend_from_slice(contents.sha256.as_bytes());
    let payload = Payload { msg: plain.expose_secret(), aad: &context_of(object_key) };
    // Only a message of 64 GiB cannot be sealed (RFC 8452 section 6); this one has 64 bytes.
    let sealed = cipher(master).encrypt(&Nonce::from(*nonce), payload).unwrap_or_default();
    [&[VERSION], nonce.as_slice(), &sealed].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use super::*;

    fn ring(ids: &[&str], seals: bool) -> Keyring {
        let lines = ids.iter().zip(1..).map(|(id, byte)| format!("{id}:{}", BASE64.encode([byte; 32])));
        Keyring::parse(&lines.collect::<Vec<_>>().join("\n"), seals).unwrap()
    }

    #[test]
    fn a_seal_opens_with_its_key_and_for_its_object_only() {
        let sha256 = Sha256::of(b"plain");
        let (seal, made) = ring(&["a"], true).seal("user-1/x", &sha256).unwrap().unwrap();
        let (other, _) = ring(&["a"], true).seal("user-1/x", &sha256).unwrap().unwrap();
        assert_ne!(seal, other, "every seal holds a key of its own");
        assert_eq!(seal.envelope.len(), 1 + 12 + 64 + 16);
        assert!(
            !seal
                .envelope
                .windows(32)
                .any(|bytes| bytes == sha256.as_bytes() || bytes == made.data_key.bytes())
        );

        let opened = ring(&["a", "b"], false).open(&seal, "user-1/x").unwrap();
        assert_eq!((opened.sha256, opened.data_key.bytes()), (sha256, made.data_key.bytes()));
        assert_eq!(
            ring(&["b"], true).open(&seal, "user-1/x").unwrap_err(),
            OpenError::UnknownKey("a".to_owned())
        );
        assert_eq!(
            ring(&["z", "a"], true).open(&seal, "user-1/x").unwrap_err(),
            OpenError::WrongKey("a".to_owned())
        );
        assert_eq!(
            ring(&["a"], true).open(&seal, "user-1/y").unwrap_err(),
            OpenError::WrongKey("a".to_owned())
        );
        for at in 0..seal.envelope.len() {
            let mut damaged = seal.clone();
            damaged.envelope[at] ^= 1;
            assert!(ring(&["a"], true).open(&damaged, "user-1/x").is_err(), "byte {at}");
        }
        for length in [0, 1, 12, 13, 28] {
            let cut = Seal { envelope: seal.envelope[..length].to_vec(), ..seal.clone() };
            assert!(ring(&["a"], true).open(&cut, "user-1/x").is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_seal_travels_in_metadata() {
        let (seal, _) = ring(&["a"], true).seal("k", &Sha256::of(b"")).unwrap().unwrap();
        let metadata: BTreeMap<String, String> =
            seal.to_metadata().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(Seal::from_metadata(&metadata), Some(seal));
        assert_eq!(Seal::from_metadata(&BTreeMap::new()), None);
    }

    #[test]
    fn nothing_is_sealed_where_old_objects_are_only_opened() {
        assert!(ring(&["a"], false).seal("k", &Sha256::of(b"")).unwrap().is_none());
    }
}
