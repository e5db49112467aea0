//! Keys: signing keys of access tokens, and keys of encrypted stores. Never contains secrets.

use chrono::{DateTime, Utc};
use nightferry_core::db::signing_keys::SigningKeyRow;
use serde::Serialize;

view! {
    /// A key that signs access tokens.
    #[derive(Serialize)]
    pub struct SigningKey: new(row: &SigningKeyRow, word: &'static str) {
        /// Id.
        pub id: String = row.id.clone(),
        /// JOSE algorithm (RFC 7518).
        pub algorithm: String = row.algorithm.clone(),
        /// `signs`, `published`, `verifies` or `unusable`.
        pub state: &'static str = word,
        /// When it was created.
        pub created_at: DateTime<Utc> = row.created_at,
        /// When it starts to sign.
        pub signs_from: DateTime<Utc> = row.signs_from,
        /// Until when tokens signed with it are accepted.
        pub verifies_until: Option<DateTime<Utc>> = row.verifies_until,
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
