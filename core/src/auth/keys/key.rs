//! A key that signs access tokens. The algorithm is a property of the key: the header of a token must match it.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::{DateTime, Utc};
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use secrecy::{ExposeSecret as _, SecretBox};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::random;
use super::super::secret_cipher::SecretCipher;
use crate::config::SigningAlgorithm;
use crate::db::signing_keys::SigningKeyRow;
use crate::error::{Error, Result};

/// Size of an HMAC key: the output size of its hash (RFC 2104 section 3).
const HMAC_BYTES: usize = 64;

/// A signing key with its metadata. Not printable.
pub struct SigningKey {
    /// Its row.
    pub row: SigningKeyRow,
    /// Its algorithm.
    pub algorithm: SigningAlgorithm,
    encoding: EncodingKey,
    decoding: DecodingKey,
    public: Option<Jwk>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({}, {})", self.row.id, <&str>::from(self.algorithm))
    }
}

impl SigningKey {
    /// Generates a key that signs from `signs_from` on, encrypted for its row.
    ///
    /// # Errors
    /// [`Error::Internal`] if the system random number generator fails.
    pub(super) async fn generate(
        algorithm: SigningAlgorithm,
        now: DateTime<Utc>,
        signs_from: DateTime<Utc>,
        cipher: &SecretCipher,
    ) -> Result<SigningKeyRow> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        // Generating an RSA key takes up to a second.
        let private = tokio::task::spawn_blocking(move || private_key(algorithm))
            .await
            .map_err(|error| Error::Internal(format!("generating a signing key panicked: {error}")))??;
        let blob = cipher.encrypt(&about(&id, algorithm), private.expose_secret())?;
        let algorithm = <&str>::from(algorithm).to_owned();
        Ok(SigningKeyRow {
            id,
            algorithm,
            encrypted: blob,
            created_at: now,
            signs_from,
            verifies_until: None,
        })
    }

    /// Decrypts the key of a row. `None` if it was encrypted with another `auth.secret_key`, or does not match its row.
    pub(super) fn open(row: SigningKeyRow, cipher: &SecretCipher) -> Option<Self> {
        let algorithm: SigningAlgorithm = row.algorithm.parse().ok()?;
        let private = SecretBox::new(Box::new(cipher.decrypt(&about(&row.id, algorithm), &row.encrypted)?));
        let encoding = encoding_key(algorithm, private.expose_secret())?;
        let (decoding, public) = match algorithm {
            SigningAlgorithm::Hs256 => (DecodingKey::from_secret(private.expose_secret()), None),
            SigningAlgorithm::Rs256 | SigningAlgorithm::EdDsa => {
                let mut public = Jwk::from_encoding_key(&encoding, jwt(algorithm)).ok()?;
                public.common.key_id = Some(row.id.clone());
                public.common.public_key_use = Some(PublicKeyUse::Signature);
                (DecodingKey::from_jwk(&public).ok()?, Some(public))
            }
        };
        Some(Self { row, algorithm, encoding, decoding, public })
    }

    /// Whether its signatures are still accepted.
    pub(super) fn verifies_at(&self, now: DateTime<Utc>) -> bool {
        self.row.verifies_until.is_none_or(|end| end > now)
    }

    /// The public key, if there is one.
    pub fn public(&self) -> Option<&Jwk> {
        self.public.as_ref()
    }

    /// Signs claims.
    ///
    /// # Errors
    /// [`Error::Internal`].
    pub(in crate::auth) fn sign<T: Serialize>(&self, claims: &T) -> Result<String> {
        let mut header = Header::new(jwt(self.algorithm));
        header.kid = Some(self.row.id.clone());
        encode(&header, claims, &self.encoding)
            .map_err(|error| Error::Internal(format!("signing an access token failed: {error}")))
    }

    /// The claims of a token signed by this key, from `issuer`. The expiry is not checked.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`].
    pub(in crate::auth) fn verify<T: DeserializeOwned>(&self, token: &str, issuer: &str) -> Result<T> {
        let mut validation = Validation::new(jwt(self.algorithm));
        validation.set_issuer(&[issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        // Checked by the caller, with the domain's clock and without leeway.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let verified = decode::<T>(token, &self.decoding, &validation);
        verified.map(|token| token.claims).map_err(|_| Error::Unauthenticated)
    }
}

/// The algorithm as the JWT library names it.
fn jwt(algorithm: SigningAlgorithm) -> Algorithm {
    match algorithm {
        SigningAlgorithm::Hs256 => Algorithm::HS256,
        SigningAlgorithm::Rs256 => Algorithm::RS256,
        SigningAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// The additional data of an encrypted key: a row cannot give a key another id or algorithm.
fn about(id: &str, algorithm: SigningAlgorithm) -> String {
    format!("signing key {id} {}", <&str>::from(algorithm))
}

/// New random bytes for HMAC, or a private key in PKCS#8 (RFC 5208).
fn private_key(algorithm: SigningAlgorithm) -> Result<SecretBox<Vec<u8>>> {
    let failed = |what: &str| Error::Internal(format!("cannot create a signing key: {what}"));
    let bytes = match algorithm {
        SigningAlgorithm::Hs256 => {
            let mut bytes = vec![0_u8; HMAC_BYTES];
            random::fill(&mut bytes)?;
            bytes
        }
        SigningAlgorithm::Rs256 => {
            // 3072 bits correspond to 128 bits of a symmetric key (NIST SP 800-57 part 1, table 2).
            let pair = RsaKeyPair::generate(KeySize::Rsa3072).map_err(|error| failed(&error.to_string()))?;
            pair.as_der().map_err(|error| failed(&error.to_string()))?.as_ref().to_vec()
        }
        SigningAlgorithm::EdDsa => {
            let random = aws_lc_rs::rand::SystemRandom::new();
            let pair =
                Ed25519KeyPair::generate_pkcs8v1(&random).map_err(|error| failed(&error.to_string()))?;
            pair.as_ref().to_vec()
        }
    };
    Ok(SecretBox::new(Box::new(bytes)))
}

fn encoding_key(algorithm: SigningAlgorithm, private: &[u8]) -> Option<EncodingKey> {
    match algorithm {
        SigningAlgorithm::Hs256 => Some(EncodingKey::from_secret(private)),
        // The library reads PKCS#8 RSA keys only from PEM.
        SigningAlgorithm::Rs256 => {
            let body = SecretBox::new(Box::new(BASE64.encode(private)));
            let pem = SecretBox::new(Box::new(format!(
                "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
                body.expose_secret()
            )));
            EncodingKey::from_rsa_pem(pem.expose_secret().as_bytes()).ok()
        }
        SigningAlgorithm::EdDsa => Some(EncodingKey::from_ed_der(private)),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::SecretString;
    use serde_json::{Value, json};

    use super::*;

    fn cipher() -> SecretCipher {
        SecretCipher::new(&SecretString::from("0123456789abcdef0123456789abcdef".to_owned()), "test")
    }

    #[tokio::test]
    async fn keys_of_every_algorithm_sign_and_verify_and_show_only_public_halves() {
        let now = Utc::now();
        for algorithm in [SigningAlgorithm::Hs256, SigningAlgorithm::Rs256, SigningAlgorithm::EdDsa] {
            let row = SigningKey::generate(algorithm, now, now, &cipher()).await.unwrap();
            let key = SigningKey::open(row.clone(), &cipher()).unwrap();
            let token = key.sign(&json!({ "iss": "me", "sub": "you", "exp": 1 })).unwrap();
            assert_eq!(key.verify::<Value>(&token, "me").unwrap()["sub"], "you");
            assert!(key.verify::<Value>(&token, "somebody else").is_err());
            let public = serde_json::to_value(key.public()).unwrap();
            assert_eq!(public.is_null(), algorithm == SigningAlgorithm::Hs256);
            for private in ["d", "p", "q", "dp", "dq", "qi", "k"] {
                assert!(public.get(private).is_none(), "{public}");
            }
            // The row cannot change the key or its use.
            let renamed = SigningKeyRow { id: "other".to_owned(), ..row.clone() };
            assert!(SigningKey::open(renamed, &cipher()).is_none());
            let confused = SigningKeyRow { algorithm: "HS256".to_owned(), ..row };
            assert_eq!(SigningKey::open(confused, &cipher()).is_some(), algorithm == SigningAlgorithm::Hs256);
        }
    }
}
