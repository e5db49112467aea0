//! The `sessions` table. Transactions that lock a session and its refresh tokens lock the session first.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::audit::Origin;
use super::schema::{revoked_tokens, sessions, users};
use super::users::User;
use crate::error::Result;
use crate::ids::{SessionId, UserId};

/// A session started by a sign-in.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = sessions, check_for_backend(diesel::pg::Pg))]
pub struct SessionRow {
    /// Id; also the id of the family of its refresh tokens.
    pub id: SessionId,
    /// Account.
    pub user_id: UserId,
    /// Address of the last refresh.
    pub ip: String,
    /// User agent of the last refresh.
    pub user_agent: String,
    /// When it started.
    pub created_at: DateTime<Utc>,
    /// When it was last refreshed: exact to the lifetime of an access token.
    pub last_used_at: DateTime<Utc>,
    /// When it ends unless it is refreshed.
    pub expires_at: DateTime<Utc>,
    /// When it was ended early.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Inserts a session. An existing one is unchanged.
pub async fn insert(conn: &mut AsyncPgConnection, session: &SessionRow) -> Result<()> {
    diesel::insert_into(sessions::table).values(session).on_conflict_do_nothing().execute(conn).await?;
    Ok(())
}

/// Finds a session and locks its row: refreshing and ending it are serialized.
pub async fn lock(conn: &mut AsyncPgConnection, id: SessionId) -> Result<Option<SessionRow>> {
    Ok(sessions::table.find(id).select(SessionRow::as_select()).for_update().first(conn).await.optional()?)
}

/// Records a refresh of a session.
pub async fn touch(
    conn: &mut AsyncPgConnection,
    id: SessionId,
    at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    origin: &Origin,
) -> Result<()> {
    diesel::update(sessions::table.find(id).filter(sessions::revoked_at.is_null()))
        .set((
            sessions::last_used_at.eq(at),
            sessions::expires_at.eq(expires_at),
            sessions::ip.eq(&origin.ip),
            sessions::user_agent.eq(&origin.user_agent),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Ends an active session of a user. Returns whether there was one.
pub async fn revoke(
    conn: &mut AsyncPgConnection,
    id: SessionId,
    user: UserId,
    at: DateTime<Utc>,
) -> Result<bool> {
    let changed = diesel::update(
        sessions::table
            .find(id)
            .filter(sessions::user_id.eq(user))
            .filter(sessions::revoked_at.is_null())
            .filter(sessions::expires_at.gt(at)),
    )
    .set(sessions::revoked_at.eq(at))
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Ends all sessions of a user except one, including expired ones, which may not have expired by the clock of another
/// process. Returns the number of those that had not expired.
pub async fn revoke_all(
    conn: &mut AsyncPgConnection,
    user: UserId,
    except: Option<SessionId>,
    at: DateTime<Utc>,
) -> Result<usize> {
    let ends: Vec<DateTime<Utc>> = diesel::update(
        sessions::table
            .filter(sessions::user_id.eq(user))
            .filter(sessions::id.ne(except.map_or_else(Uuid::nil, Uuid::from)))
            .filter(sessions::revoked_at.is_null()),
    )
    .set(sessions::revoked_at.eq(at))
    .returning(sessions::expires_at)
    .get_results(conn)
    .await?;
    Ok(ends.into_iter().filter(|end| *end > at).count())
}

/// The active sessions of a user, newest first, before `before`, at most `limit`.
pub async fn page(
    conn: &mut AsyncPgConnection,
    user: UserId,
    now: DateTime<Utc>,
    before: Option<SessionId>,
    limit: i64,
) -> Result<Vec<SessionRow>> {
    Ok(sessions::table
        .filter(sessions::user_id.eq(user))
        .filter(sessions::id.lt(before.map_or_else(Uuid::max, Uuid::from)))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::expires_at.gt(now))
        .select(SessionRow::as_select())
        .order(sessions::id.desc())
        .limit(limit)
        .load(conn)
        .await?)
}

/// The account of an access token, and whether token and session are still active: the one round trip of each request.
pub async fn user_of(
    conn: &mut AsyncPgConnection,
    user: UserId,
    session: SessionId,
    jti: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<(User, bool)>> {
    let revoked = diesel::dsl::exists(revoked_tokens::table.filter(revoked_tokens::jti.eq(jti)));
    let live = diesel::dsl::exists(
        sessions::table
            .filter(sessions::id.eq(session))
            .filter(sessions::user_id.eq(user))
            .filter(sessions::revoked_at.is_null())
            .filter(sessions::expires_at.gt(now)),
    );
    let found: Option<(User, bool, bool)> =
        users::table.find(user).select((User::as_select(), live, revoked)).first(conn).await.optional()?;
    Ok(found.map(|(user, live, revoked)| (user, live && !revoked)))
}

/// Deletes sessions that expired before `before`. Returns their number.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::delete(sessions::table.filter(sessions::expires_at.lt(before))).execute(conn).await?)
}
