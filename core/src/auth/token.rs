//! Access tokens (JWT, RFC 7519) and refresh tokens (opaque random). Pure: no database.

use chrono::{DateTime, Duration, Utc};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use rand::TryRngCore;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::config::AuthConfig;
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

/// Signs and checks access tokens with the configured key.
#[derive(Clone)]
pub struct TokenKeys {
    encoding: EncodingKey,
    decoding: DecodingKey,
    issuer: String,
    lifetime: Duration,
}

impl TokenKeys {
    /// Keys from the configuration (HS256).
    pub fn new(config: &AuthConfig) -> Self {
        let secret = config.secret_key.expose_secret().as_bytes();
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
            issuer: config.issuer.clone(),
            lifetime: Duration::from_std(config.access_token_ttl).unwrap_or(Duration::minutes(15)),
        }
    }

    /// How long an access token lives.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// Signs a new access token.
    ///
    /// # Errors
    /// [`Error::Internal`] when signing fails.
    pub fn issue(&self, user: UserId, session: SessionId, now: DateTime<Utc>) -> Result<(String, Claims)> {
        let claims = Claims {
            sub: user,
            jti: Uuid::new_v4(),
            sid: session,
            iss: self.issuer.clone(),
            iat: now.timestamp(),
            exp: (now + self.lifetime).timestamp(),
        };
        let token = encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|error| Error::Internal(format!("signing an access token failed: {error}")))?;
        Ok((token, claims))
    }

    /// Checks signature, algorithm, issuer and expiry at `now`.
    ///
    /// # Errors
    /// [`Error::TokenExpired`], or [`Error::Unauthenticated`] for everything else that is wrong with it.
    pub fn check(&self, token: &str, now: DateTime<Utc>) -> Result<Claims> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[&self.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "sub"]);
        // Expiry is compared below, with our clock and without leeway.
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims = decode::<Claims>(token, &self.decoding, &validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => Error::TokenExpired,
                _ => Error::Unauthenticated,
            })?
            .claims;
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
    rand::rngs::OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|error| Error::Internal(format!("the system's random source failed: {error}")))?;
    Ok(SecretString::from(hex::encode(bytes)))
}

/// The form in which a refresh token is stored. A fast hash is enough: the token is random.
pub fn hash_refresh_token(token: &SecretString) -> [u8; 32] {
    Sha256::digest(token.expose_secret().as_bytes()).into()
}
