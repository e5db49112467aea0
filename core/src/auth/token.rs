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

/// The claims of an access token. The role is not included: it is read with the account on each request, so that a
/// change takes effect immediately.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Account.
    pub sub: UserId,
    /// The id of this token, for the revocation list.
    pub jti: Uuid,
    /// The session of the token.
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
    /// Configured from the settings.
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

    /// The lifetime of an access token.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The key that signs at `now`.
    pub async fn signer(&self, db: &Database, now: DateTime<Utc>) -> Result<Arc<SigningKey>> {
        let keys = self.keys.current(db, now).await?;
        let signer = keys.signer(now).cloned();
        signer.ok_or_else(|| Error::Internal("there is no key to sign access tokens with".to_owned()))
    }

    /// Signs a new access token.
    ///
    /// # Errors
    /// [`Error::Internal`] if signing fails.
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
        if signer.algorithm != SigningAlgorithm::Rs256 {
            return signer.sign(&claims);
        }
        // RSA takes milliseconds, the other algorithms microseconds.
        let signer = signer.clone();
        tokio::task::spawn_blocking(move || signer.sign(&claims))
            .await
            .map_err(|error| Error::Internal(format!("signing an access token panicked: {error}")))?
    }

    /// Validates a token with the key named in its header: signature, algorithm of that key, issuer, and expiry at
    /// `now`.
    ///
    /// # Errors
    /// [`Error::TokenExpired`], or [`Error::Unauthenticated`] for any other reason; any database error if keys have to
    /// be loaded.
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

/// Generates a refresh token: 256 random bits.
///
/// # Errors
/// [`Error::Internal`] if the system random number generator fails.
pub fn new_refresh_token() -> Result<SecretString> {
    let mut bytes = [0_u8; 32];
    random::fill(&mut bytes)?;
    Ok(SecretString::from(hex::encode(bytes)))
}

/// The stored form of refresh tokens and personal access tokens. A fast hash is sufficient, because they are random.
pub(super) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
