//! The sessions of an account: list, end one, end all. The next request of an ended session is rejected on every
//! instance.

use chrono::{DateTime, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::sessions::{self, SessionRow};
use crate::db::{personal_tokens, refresh_tokens, split_page};
use crate::error::{Error, Noun, Result};
use crate::ids::{SessionId, UserId};

/// The number of ended sessions and revoked tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Sessions.
    pub sessions: usize,
    /// Personal access tokens.
    pub tokens: usize,
}

/// The active sessions of an account, newest first, before `before`; and whether there are more than `limit`.
pub async fn page(
    context: &Context,
    user: UserId,
    before: Option<SessionId>,
    limit: i64,
) -> Result<(Vec<SessionRow>, bool)> {
    let mut conn = context.db.conn().await?;
    let rows = sessions::page(&mut conn, user, context.clock.now(), before, limit.saturating_add(1)).await?;
    Ok(split_page(rows, limit))
}

/// Ends a session of `user`.
///
/// # Errors
/// [`Error::NotFound`] if the account has no such active session.
pub async fn end(
    context: &Context,
    id: SessionId,
    user: UserId,
    actor: Option<UserId>,
    origin: &Origin,
) -> Result<()> {
    let mut conn = context.db.conn().await?;
    let now = context.clock.now();
    conn.transaction(async move |conn| {
        if !end_in(conn, id, user, now).await? {
            return Err(Error::NotFound(Noun::Session));
        }
        let detail = serde_json::json!({ "user_id": user });
        audit::record(conn, origin, actor, "session.revoke", ("session", id), detail).await
    })
    .await
}

/// Ends every session of `user`, and with `tokens` also revokes all personal access tokens.
pub async fn end_all(
    context: &Context,
    user: UserId,
    tokens: bool,
    actor: Option<UserId>,
    origin: &Origin,
) -> Result<Ended> {
    let mut conn = context.db.conn().await?;
    let now = context.clock.now();
    conn.transaction(async move |conn| {
        let sessions = end_all_in(conn, user, None, now).await?;
        let tokens = if tokens { personal_tokens::revoke_all(conn, user, now).await? } else { 0 };
        let detail = serde_json::json!({ "sessions": sessions, "tokens": tokens });
        audit::record(conn, origin, actor, "session.revoke_all", ("user", user), detail).await?;
        Ok(Ended { sessions, tokens })
    })
    .await
}

/// Ends a session within a transaction. Returns whether it was active.
pub(super) async fn end_in(
    conn: &mut AsyncPgConnection,
    id: SessionId,
    user: UserId,
    now: DateTime<Utc>,
) -> Result<bool> {
    let was_live = sessions::revoke(conn, id, user, now).await?;
    refresh_tokens::revoke_family(conn, id, now).await?;
    Ok(was_live)
}

/// Ends every session of a user except one, within a transaction, including sessions without a row, which were started
/// by an older version. Returns the number of sessions with a row.
pub(super) async fn end_all_in(
    conn: &mut AsyncPgConnection,
    user: UserId,
    except: Option<SessionId>,
    now: DateTime<Utc>,
) -> Result<usize> {
    let ended = sessions::revoke_all(conn, user, except, now).await?;
    refresh_tokens::revoke_of_user(conn, user, except, now).await?;
    Ok(ended)
}
