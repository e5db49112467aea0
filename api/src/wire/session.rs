//! Sessions.

use chrono::{DateTime, Utc};
use nightferry_core::db::sessions::SessionRow;
use nightferry_core::ids::SessionId;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// A session of the caller.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// Id.
    pub(crate) id: Uuid,
    /// When it began.
    pub(crate) created_at: DateTime<Utc>,
    /// When it was last continued: exact to the life of an access token.
    pub(crate) last_used_at: DateTime<Utc>,
    /// Address from which it was last continued.
    pub(crate) ip: String,
    /// Client that last continued it, as it names itself.
    pub(crate) user_agent: String,
    /// Whether it is the one that asks.
    pub(crate) current: bool,
    /// When it ends by itself, unless it is continued.
    pub(crate) expires_at: DateTime<Utc>,
}

impl SessionView {
    /// Shows a session to the session `current`.
    pub(crate) fn new(row: SessionRow, current: SessionId) -> Self {
        Self {
            id: row.id.0,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
            ip: row.ip,
            user_agent: row.user_agent,
            current: row.id == current,
            expires_at: row.expires_at,
        }
    }
}

/// A page of sessions.
#[derive(Serialize, ToSchema)]
pub(crate) struct SessionPage {
    /// The sessions.
    pub(crate) sessions: Vec<SessionView>,
    /// For the next page; none when there is none.
    pub(crate) next_cursor: Option<String>,
}
