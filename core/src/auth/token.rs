//! Access tokens (JWT, RFC 7519) and refresh tokens (opaque random).

use std::sync::Arc;

use chrono::{DateTime, Duration, Utc};
use jsonwebtoken::decode_header;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::keys::{SigningKey, SigningKeys};
use super::random;
use crate::config::{AuthConfig, SigningAlgorithm};
use crate::db::Database;
use crate::error::{Error, Result};
use crate::ids::{SessionId, UserId};

/// What an access token says. The role is not in it: it is read with the account at each request, so that
/// taking it away works at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Account.
    pub sub: UserId,
    /// This token, for the revocation list.
    pub jti: Uuid,
    /// Session it belongs to.
    pub sid: SessionId,
    /// Issuer.
    pub iss: String,
    /// Issued at, seconds since 1970.
    pub iat: i64,
    /// Expires at, seconds since 1970.
    pub exp: i64,
}

impl Claims {
    /// When the token expires.
    pub fn expires_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.exp, 0).unwrap_or_default()
    }
}

/// Signs and checks access tokens.
#[derive(Clone)]
pub struct AccessTokens {
    keys: SigningKeys,
    issuer: String,
    lifetime: Duration,
}

impl AccessTokens {
    /// As the configuration says.
    pub fn new(config: &AuthConfig) -> Self {
        Self {
            keys: SigningKeys::new(config),
            issuer: config.issuer.clone(),
            lifetime: Duration::from_std(config.access_token_ttl).unwrap_or(Duration::minutes(15)),
        }
    }

    /// The keys.
    pub fn keys(&self) -> &SigningKeys {
        &self.keys
    }

    /// How long an access token lives.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The key that signs at `now`.
    ///
    /// # Errors
    /// Whatever the database meets.
    pub async fn signer(&self, db: &Database, now: DateTime<Utc>) -> Result<Arc<SigningKey>> {
        let keys = self.keys.current(db, now).await?;
        let signer = keys.signer(now).cloned();
        signer.ok_or_else(|| Error::Internal("there is no key to sign access tokens with".to_owned()))
    }

    /// Signs a new access token.
    ///
    /// # Errors
    /// [`Error::Internal`] when signing fails.
    pub async fn issue(
        &self,
        signer: &Arc<SigningKey>,
        user: UserId,
        session: SessionId,
        now: DateTime<Utc>,
    ) -> Result<String> {
        let claims = Claims {
            sub: user,
            jti: Uuid::new_v4(),
            sid: session,
            iss: self.issuer.clone(),
            iat: now.timestamp(),
            exp: (now + self.lifetime).timestamp(),
        };
        if signer.algorithm() != SigningAlgorithm::Rs256 {
            return signer.sign(&claims);
        }
        // RSA takes milliseconds, the others microseconds.
        let signer = signer.clone();
        tokio::task::spawn_blocking(move || signer.sign(&claims))
            .await
            .map_err(|error| Error::Internal(format!("signing an access token panicked: {error}")))?
    }

    /// Checks a token by the key that its header names: signature, that key's algorithm, issuer, and expiry at `now`.
    ///
    /// # Errors
    /// [`Error::TokenExpired`], or [`Error::Unauthenticated`] for everything else that is wrong with it; and whatever the
    /// database meets when keys have to be read.
    pub async fn check(&self, db: &Database, token: &str, now: DateTime<Utc>) -> Result<Claims> {
        let header = decode_header(token).map_err(|_| Error::Unauthenticated)?;
        let id = header.kid.ok_or(Error::Unauthenticated)?;
        let key = self.keys.find(db, &id, now).await?.ok_or(Error::Unauthenticated)?;
        let claims: Claims = key.verify(token, &self.issuer)?;
        if claims.exp <= now.timestamp() {
            return Err(Error::TokenExpired);
        }
        Ok(claims)
    }
}

/// Makes a refresh token: 256 random bits.
///
/// # Errors
/// [`Error::Internal`] when the system has no randomness to give.
pub fn new_refresh_token() -> Result<SecretString> {
    let mut bytes = [0_u8; 32];
    random::fill(&mut bytes)?;
    Ok(SecretString::from(hex::encode(bytes)))
}

/// The form in which refresh tokens and personal access tokens are stored. A fast hash is enough: they are random.
pub(super) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
