//! The keys of snapshots, all derived from one configured secret (HKDF, RFC 5869): one signs (HMAC-SHA256, RFC 2104),
//! and one per snapshot encrypts its password hashes (ChaCha20-Poly1305, RFC 8439).

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::SecureRandom;
use ring::{hkdf, hmac, rand};
use secrecy::ExposeSecret;
use uuid::Uuid;

use crate::config::Config;
use crate::error::{Error, Result};

const SALT: &[u8] = b"nightferry catalog 1";
/// The prefix of an encrypted text.
const ENCRYPTED_PREFIX: &str = "sealed:";

/// Signs snapshots and derives their encryption keys.
pub(super) struct Keys {
    signing: hmac::Key,
    id: String,
    root: hkdf::Prk,
}

/// Encrypts and decrypts texts of one snapshot.
pub(super) struct SnapshotCipher(LessSafeKey);

fn failed(_: ring::error::Unspecified) -> Error {
    Error::Internal("cannot derive the keys of the catalogue".to_owned())
}

impl Keys {
    /// From `catalog.secret_key`, or else from `auth.secret_key`.
    pub(super) fn of(config: &Config) -> Result<Self> {
        let secret = config.catalog.secret_key.as_ref().unwrap_or(&config.auth.secret_key);
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(secret.expose_secret().as_bytes());
        let info: [&[u8]; 1] = [b"id"];
        let mut id = [0; 32];
        root.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut id)).map_err(failed)?;
        // The first eight bytes identify the key, and reveal nothing of it.
        let id = hex::encode(id).chars().take(16).collect();
        let signing = root.expand(&[b"sign".as_slice()], hmac::HMAC_SHA256).map_err(failed)?.into();
        Ok(Self { signing, id, root })
    }

    /// The public id of the key.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// A signature being computed.
    pub(super) fn signature(&self) -> hmac::Context {
        hmac::Context::with_key(&self.signing)
    }

    /// Whether `given` equals the signature `ours`. In constant time: an attacker with write access to the store must
    /// not be able to determine a signature byte by byte.
    pub(super) fn is_same(&self, ours: &hmac::Tag, given: &[u8]) -> bool {
        let given = hmac::sign(&self.signing, given);
        hmac::verify(&self.signing, ours.as_ref(), given.as_ref()).is_ok()
    }

    /// Encrypts for the snapshot `id`.
    pub(super) fn cipher(&self, id: Uuid) -> Result<SnapshotCipher> {
        let info: [&[u8]; 2] = [b"seal", id.as_bytes()];
        let key: UnboundKey = self.root.expand(&info, &CHACHA20_POLY1305).map_err(failed)?.into();
        Ok(SnapshotCipher(LessSafeKey::new(key)))
    }
}

impl SnapshotCipher {
    /// Encrypts `text` for `owner`: it cannot be exchanged with that of another account.
    pub(super) fn encrypt(&self, text: &str, owner: &str) -> Result<String> {
        let mut nonce = [0; NONCE_LEN];
        rand::SystemRandom::new().fill(&mut nonce).map_err(failed)?;
        let mut bytes = text.as_bytes().to_vec();
        let aad = Aad::from(owner.as_bytes());
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut bytes)
            .map_err(failed)?;
        Ok(format!(
            "{ENCRYPTED_PREFIX}{}",
            BASE64_STANDARD.encode([nonce.as_slice(), bytes.as_slice()].concat())
        ))
    }

    /// Decrypts the output of [`Self::encrypt`]; `None` if it is not authentic, or not for `owner`.
    pub(super) fn decrypt(&self, encrypted: &str, owner: &str) -> Option<String> {
        let bytes = BASE64_STANDARD.decode(encrypted.strip_prefix(ENCRYPTED_PREFIX)?).ok()?;
        let (nonce, text) = bytes.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let opened = self.0.open_in_place(nonce, Aad::from(owner.as_bytes()), &mut text).ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::LoadOptions;

    fn keys(secret: &str) -> Keys {
        let overrides = [
            ("database.url", "postgres://localhost/x"),
            ("auth.secret_key", secret),
            ("stores.minio.access_key", "x"),
            ("stores.minio.secret_key", "x"),
            ("stores.s3.bucket", "xxx"),
            ("stores.s3.access_key", "x"),
            ("stores.s3.secret_key", "x"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
        let options = LoadOptions { overrides: overrides.into(), ..LoadOptions::default() };
        Keys::of(&Config::load(options).unwrap()).unwrap()
    }

    #[test]
    fn an_encrypted_text_decrypts_only_with_its_key_in_its_snapshot_for_its_owner() {
        let (keys, other) = (keys(&"ab".repeat(16)), keys(&"bc".repeat(16)));
        let id = Uuid::from_u128(1);
        let encrypted = keys.cipher(id).unwrap().encrypt("$2b$12$hash", "ada").unwrap();
        assert!(!encrypted.contains("hash"));
        let decrypt = |keys: &Keys, id, owner| keys.cipher(id).unwrap().decrypt(&encrypted, owner);
        assert_eq!(decrypt(&keys, id, "ada").as_deref(), Some("$2b$12$hash"));
        assert_eq!(decrypt(&keys, id, "bob"), None);
        assert_eq!(decrypt(&keys, Uuid::from_u128(2), "ada"), None);
        assert_eq!(decrypt(&other, id, "ada"), None);
        assert_ne!(keys.id(), other.id());
        assert_ne!(encrypted, keys.cipher(id).unwrap().encrypt("$2b$12$hash", "ada").unwrap());
        for wrong in ["", "sealed:", "sealed:!", "$2b$12$hash"] {
            assert_eq!(keys.cipher(id).unwrap().decrypt(wrong, "ada"), None);
        }
    }
}
