//! The `sessions` table. Whoever locks a session and its refresh tokens locks the session first.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::audit::Origin;
use super::schema::{revoked_tokens, sessions, users};
use super::users::User;
use crate::error::Result;
use crate::ids::{SessionId, UserId};

/// What a sign-in began.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = sessions, check_for_backend(diesel::pg::Pg))]
pub struct SessionRow {
    /// Id; the family of its refresh tokens.
    pub id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// Address from which it was last continued.
    pub ip: String,
    /// Client that last continued it, as it names itself.
    pub user_agent: String,
    /// When it began.
    pub created_at: DateTime<Utc>,
    /// When it was last continued: exact to the life of an access token.
    pub last_used_at: DateTime<Utc>,
    /// When it ends by itself, unless it is continued.
    pub expires_at: DateTime<Utc>,
    /// When it was ended before.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Inserts a session. One that is there already stays.
pub async fn insert(conn: &mut AsyncPgConnection, session: &SessionRow) -> Result<()> {
    diesel::insert_into(sessions::table).values(session).on_conflict_do_nothing().execute(conn).await?;
    Ok(())
}

/// Finds a session and locks its row: whoever continues or ends it waits for the other.
pub async fn lock(conn: &mut AsyncPgConnection, id: SessionId) -> Result<Option<SessionRow>> {
    Ok(sessions::table.find(id).select(SessionRow::as_select()).for_update().first(conn).await.optional()?)
}

/// Notes that a session was continued.
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

/// Ends a live session of a user. Answers whether there was one.
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

/// Ends every session of a user but one, also those that have expired: of another process's clock they may not have. Answers
/// how many had not.
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

/// The live sessions of a user, those that began last first, before `before`, at most `limit`.
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

/// The account that an access token speaks for, and whether token and session still live: the one round trip of each
/// request.
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

/// Drops sessions that ended by themselves before `before`. Answers how many.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::delete(sessions::table.filter(sessions::expires_at.lt(before))).execute(conn).await?)
}
