//! The `refresh_tokens` table. Holds hashes, never tokens.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::schema::refresh_tokens;
use crate::error::Result;
use crate::ids::{RefreshTokenId, SessionId, UserId};

/// One refresh token of a family.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = refresh_tokens, check_for_backend(diesel::pg::Pg))]
pub struct RefreshToken {
    /// Id.
    pub id: RefreshTokenId,
    /// Whose it is.
    pub user_id: UserId,
    /// The session it descends from.
    pub family: SessionId,
    /// When it stops working by itself.
    pub expires_at: DateTime<Utc>,
    /// When it was exchanged for the next one.
    pub rotated_at: Option<DateTime<Utc>>,
    /// When it was taken back.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A new refresh token.
#[derive(Debug, Insertable)]
#[diesel(table_name = refresh_tokens)]
pub struct NewRefreshToken<'a> {
    /// Id.
    pub id: RefreshTokenId,
    /// Whose it is.
    pub user_id: UserId,
    /// The session.
    pub family: SessionId,
    /// SHA-256 of the token.
    pub token_hash: &'a [u8],
    /// Client, as it names itself.
    pub user_agent: &'a str,
    /// Address it came from.
    pub ip: &'a str,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stops working by itself.
    pub expires_at: DateTime<Utc>,
}

/// Inserts a token.
pub async fn insert(conn: &mut AsyncPgConnection, token: &NewRefreshToken<'_>) -> Result<()> {
    diesel::insert_into(refresh_tokens::table).values(token).execute(conn).await?;
    Ok(())
}

/// Finds a token by its hash.
pub async fn by_hash(conn: &mut AsyncPgConnection, hash: &[u8]) -> Result<Option<RefreshToken>> {
    Ok(refresh_tokens::table
        .filter(refresh_tokens::token_hash.eq(hash))
        .select(RefreshToken::as_select())
        .first(conn)
        .await
        .optional()?)
}

/// Finds a token by its hash and locks its row, so that of two refreshes at once one waits for the other.
pub async fn lock_by_hash(conn: &mut AsyncPgConnection, hash: &[u8]) -> Result<Option<RefreshToken>> {
    Ok(refresh_tokens::table
        .filter(refresh_tokens::token_hash.eq(hash))
        .select(RefreshToken::as_select())
        .for_update()
        .first(conn)
        .await
        .optional()?)
}

/// Marks a live token as exchanged. Answers whether it was live.
pub async fn rotate(conn: &mut AsyncPgConnection, id: RefreshTokenId, at: DateTime<Utc>) -> Result<bool> {
    let changed = diesel::update(
        refresh_tokens::table
            .find(id)
            .filter(refresh_tokens::rotated_at.is_null())
            .filter(refresh_tokens::revoked_at.is_null()),
    )
    .set(refresh_tokens::rotated_at.eq(at))
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Revokes every live token of a user but those of one family. Answers how many.
pub async fn revoke_of_user(
    conn: &mut AsyncPgConnection,
    user: UserId,
    except: Option<SessionId>,
    at: DateTime<Utc>,
) -> Result<usize> {
    Ok(diesel::update(
        refresh_tokens::table
            .filter(refresh_tokens::user_id.eq(user))
            .filter(refresh_tokens::family.ne(except.map_or_else(Uuid::nil, Uuid::from)))
            .filter(refresh_tokens::rotated_at.is_null())
            .filter(refresh_tokens::revoked_at.is_null()),
    )
    .set(refresh_tokens::revoked_at.eq(at))
    .execute(conn)
    .await?)
}

/// Revokes every live token of a family. Answers how many.
pub async fn revoke_family(
    conn: &mut AsyncPgConnection,
    family: SessionId,
    at: DateTime<Utc>,
) -> Result<usize> {
    Ok(diesel::update(
        refresh_tokens::table
            .filter(refresh_tokens::family.eq(family))
            // Of a long session there are thousands that were exchanged already.
            .filter(refresh_tokens::rotated_at.is_null())
            .filter(refresh_tokens::revoked_at.is_null()),
    )
    .set(refresh_tokens::revoked_at.eq(at))
    .execute(conn)
    .await?)
}

/// Drops tokens that expired before `before`. Answers how many.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::delete(refresh_tokens::table.filter(refresh_tokens::expires_at.lt(before)))
        .execute(conn)
        .await?)
}
