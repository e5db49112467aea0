//! The `refresh_tokens` table. Holds hashes, never tokens.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::audit::Origin;
use super::schema::refresh_tokens;
use super::sessions::SessionRow;
use crate::error::Result;
use crate::ids::{RefreshTokenId, SessionId, UserId};

/// A refresh token of a family.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = refresh_tokens, check_for_backend(diesel::pg::Pg))]
pub struct RefreshToken {
    /// Id.
    pub id: RefreshTokenId,
    /// Account.
    pub user_id: UserId,
    /// The session of the family.
    pub family: SessionId,
    /// When it expires.
    pub expires_at: DateTime<Utc>,
    /// When it was exchanged for the next one.
    pub rotated_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// Inserts a token of a session, given by its SHA-256, for the requesting client.
pub async fn insert(
    conn: &mut AsyncPgConnection,
    session: &SessionRow,
    hash: &[u8],
    origin: &Origin,
    at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::id.eq(RefreshTokenId::new()),
            refresh_tokens::user_id.eq(session.user_id),
            refresh_tokens::family.eq(session.id),
            refresh_tokens::token_hash.eq(hash),
            refresh_tokens::user_agent.eq(&origin.user_agent),
            refresh_tokens::ip.eq(&origin.ip),
            refresh_tokens::created_at.eq(at),
            refresh_tokens::expires_at.eq(expires_at),
        ))
        .execute(conn)
        .await?;
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

/// Finds a token by its hash and locks its row, so that concurrent refreshes are serialized.
pub async fn lock_by_hash(conn: &mut AsyncPgConnection, hash: &[u8]) -> Result<Option<RefreshToken>> {
    Ok(refresh_tokens::table
        .filter(refresh_tokens::token_hash.eq(hash))
        .select(RefreshToken::as_select())
        .for_update()
        .first(conn)
        .await
        .optional()?)
}

/// Marks an active token as exchanged. Returns whether it was active.
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

/// Revokes all active tokens of a user except those of one family. Returns their number.
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

/// Revokes all active tokens of a family. Returns their number.
pub async fn revoke_family(
    conn: &mut AsyncPgConnection,
    family: SessionId,
    at: DateTime<Utc>,
) -> Result<usize> {
    Ok(diesel::update(
        refresh_tokens::table
            .filter(refresh_tokens::family.eq(family))
            // A long session has thousands of tokens that have already been exchanged.
            .filter(refresh_tokens::rotated_at.is_null())
            .filter(refresh_tokens::revoked_at.is_null()),
    )
    .set(refresh_tokens::revoked_at.eq(at))
    .execute(conn)
    .await?)
}

/// Deletes tokens that expired before `before`. Returns their number.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::delete(refresh_tokens::table.filter(refresh_tokens::expires_at.lt(before)))
        .execute(conn)
        .await?)
}
