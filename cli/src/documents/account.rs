//! Accounts.

use chrono::{DateTime, Utc};
use nightferry_core::db::unsigned;
use nightferry_core::db::users::User;
use serde::Serialize;

/// An account.
#[derive(Debug, Serialize)]
pub(crate) struct UserDocument {
    id: String,
    email: String,
    name: String,
    role: &'static str,
    disabled_at: Option<DateTime<Utc>>,
    quota_bytes: Option<u64>,
    used_bytes: u64,
    created_at: DateTime<Utc>,
}

impl UserDocument {
    pub(crate) fn of(user: &User) -> Self {
        Self {
            id: user.id.to_string(),
            email: user.email.clone(),
            name: user.name.clone(),
            role: user.role.as_str(),
            disabled_at: user.disabled_at,
            quota_bytes: user.quota_bytes.map(unsigned),
            used_bytes: unsigned(user.used_bytes),
            created_at: user.created_at,
        }
    }
}
