//! Keys: signing keys of access tokens, and keys of encrypted stores. Never contains secrets.

use chrono::{DateTime, Utc};
use nightferry_core::db::signing_keys::SigningKeyRow;
use serde::Serialize;

/// A key that signs access tokens.
#[derive(Serialize)]
pub struct SigningKey {
    /// Id.
    pub id: String,
    /// JOSE algorithm (RFC 7518).
    pub algorithm: String,
    /// `signs`, `published`, `verifies` or `unusable`.
    pub state: &'static str,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it starts to sign.
    pub signs_from: DateTime<Utc>,
    /// Until when tokens signed with it are accepted.
    pub verifies_until: Option<DateTime<Utc>>,
}

impl SigningKey {
    /// Creates the view of a key.
    pub fn new(row: &SigningKeyRow, state: &'static str) -> Self {
        Self {
            id: row.id.clone(),
            algorithm: row.algorithm.clone(),
            state,
            created_at: row.created_at,
            signs_from: row.signs_from,
            verifies_until: row.verifies_until,
        }
    }
}

/// A key of an encrypted store.
#[derive(Serialize)]
pub struct EncryptionKey {
    /// Store.
    pub store: String,
    /// Id.
    pub id: String,
    /// `active` (encrypts and decrypts), `old` (decrypts) or `missing` (needed, but not configured).
    pub state: &'static str,
    /// Number of copies that need it.
    pub copies: u64,
}
