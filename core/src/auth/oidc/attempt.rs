//! A sign-in attempt: random values that bind the response of the provider to the browser that started it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::random;
use crate::error::Result;

/// A sign-in attempt, stored encrypted in a cookie.
#[derive(Serialize, Deserialize)]
pub(super) struct Attempt {
    /// Name of the provider.
    pub(super) provider: String,
    /// Returned with the response.
    pub(super) state: String,
    /// Returned in the ID token.
    pub(super) nonce: String,
    /// Proves in the exchange that the same client started the attempt (RFC 7636 section 4.1).
    pub(super) verifier: String,
    /// The destination of the browser after signing in.
    pub(super) return_to: String,
    pub(super) expires_at: DateTime<Utc>,
}

impl Attempt {
    pub(super) fn new(provider: &str, return_to: String, expires_at: DateTime<Utc>) -> Result<Self> {
        Ok(Self {
            provider: provider.to_owned(),
            state: random_text()?,
            nonce: random_text()?,
            verifier: random_text()?,
            return_to,
            expires_at,
        })
    }
}

/// 256 random bits as text.
fn random_text() -> Result<String> {
    let mut bytes = [0_u8; 32];
    random::fill(&mut bytes)?;
    Ok(encode(&bytes))
}

/// URL-safe Base64 (RFC 4648 section 5).
pub(super) fn encode(bytes: &[u8]) -> String {
    BASE64URL.encode(bytes)
}

/// Decodes such a text.
pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64URL.decode(text).ok()
}

/// Compares in constant time.
pub(super) fn same(a: &str, b: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}
