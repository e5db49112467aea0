//! Encryption of small secrets with a key derived from `auth.secret_key`: for database rows and cookies, which must be
//! neither readable nor modifiable.

use std::sync::Arc;

use aes_gcm_siv::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use ring::hmac;
use secrecy::{ExposeSecret as _, ExposeSecretMut as _, SecretBox, SecretString};

use super::random;
use crate::error::{Error, Result};

/// Version byte of the ciphertext: AES-256-GCM-SIV with a key derived by HMAC-SHA-256 of the purpose.
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;

/// Encrypts and decrypts for one purpose.
#[derive(Clone)]
pub(super) struct SecretCipher {
    key: Arc<SecretBox<[u8; 32]>>,
}

impl SecretCipher {
    /// A ciphertext for one purpose cannot be decrypted for another.
    pub(super) fn new(secret: &SecretString, purpose: &str) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
        let mut key = SecretBox::new(Box::new([0; 32]));
        key.expose_secret_mut().copy_from_slice(hmac::sign(&root, purpose.as_bytes()).as_ref());
        Self { key: Arc::new(key) }
    }

    /// Encrypts `plain`; `about` is the additional data, required for decryption.
    pub(super) fn encrypt(&self, about: &str, plain: &[u8]) -> Result<Vec<u8>> {
        let failed = |what: &dyn std::fmt::Display| Error::Internal(format!("encryption failed: {what}"));
        let mut nonce = [0_u8; NONCE_BYTES];
        random::fill(&mut nonce)?;
        let payload = Payload { msg: plain, aad: about.as_bytes() };
        let encrypted =
            self.cipher().encrypt(&Nonce::from(nonce), payload).map_err(|error| failed(&error))?;
        Ok([[VERSION].as_slice(), nonce.as_slice(), encrypted.as_slice()].concat())
    }

    /// Decrypts a ciphertext made with the same secret, purpose and `about`.
    pub(super) fn decrypt(&self, about: &str, encrypted: &[u8]) -> Option<Vec<u8>> {
        let (version, rest) = encrypted.split_first()?;
        let (nonce, encrypted) = rest.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: encrypted, aad: about.as_bytes() };
        let opened = self.cipher().decrypt(&Nonce::from(*nonce), payload).ok()?;
        (*version == VERSION).then_some(opened)
    }

    fn cipher(&self) -> Aes256GcmSiv {
        Aes256GcmSiv::new(self.key.expose_secret().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cipher(secret: &str, purpose: &str) -> SecretCipher {
        SecretCipher::new(&SecretString::from(secret.to_owned()), purpose)
    }

    #[test]
    fn ciphertext_decrypts_only_with_the_same_secret_purpose_and_subject() {
        let encrypted = cipher("a", "keys").encrypt("kid", b"private").unwrap();
        assert_eq!(cipher("a", "keys").decrypt("kid", &encrypted).as_deref(), Some(b"private".as_slice()));
        assert_eq!(cipher("b", "keys").decrypt("kid", &encrypted), None);
        assert_eq!(cipher("a", "cookies").decrypt("kid", &encrypted), None);
        assert_eq!(cipher("a", "keys").decrypt("other", &encrypted), None);
        for at in 0..encrypted.len() {
            let mut changed = encrypted.clone();
            changed[at] ^= 1;
            assert_eq!(cipher("a", "keys").decrypt("kid", &changed), None, "{at}");
        }
        assert_eq!(cipher("a", "keys").decrypt("kid", &encrypted[..12]), None);
    }
}
