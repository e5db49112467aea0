//! The `revoked_tokens` table: access tokens that end before their time.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::schema::{refresh_tokens, revoked_tokens, users};
use super::users::User;
use crate::error::Result;
use crate::ids::{SessionId, UserId};

/// Revokes an access token until it would have expired anyway. Twice is once.
pub async fn insert(
    conn: &mut AsyncPgConnection,
    jti: Uuid,
    user: UserId,
    expires_at: DateTime<Utc>,
) -> Result<()> {
    diesel::insert_into(revoked_tokens::table)
        .values((
            revoked_tokens::jti.eq(jti),
            revoked_tokens::user_id.eq(user),
            revoked_tokens::expires_at.eq(expires_at),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    Ok(())
}

/// The account a token speaks for, and whether that token was revoked or its session ended: one round trip per request.
pub async fn user_and_revocation(
    conn: &mut AsyncPgConnection,
    user: UserId,
    jti: Uuid,
    session: SessionId,
) -> Result<Option<(User, bool)>> {
    let revoked = diesel::dsl::exists(revoked_tokens::table.filter(revoked_tokens::jti.eq(jti)));
    let ended = diesel::dsl::exists(
        refresh_tokens::table
            .filter(refresh_tokens::family.eq(session))
            .filter(refresh_tokens::revoked_at.is_not_null()),
    );
    let wanted = (User::as_select(), revoked, ended);
    let found: Option<(User, bool, bool)> =
        users::table.find(user).select(wanted).first(conn).await.optional()?;
    Ok(found.map(|(user, revoked, ended)| (user, revoked || ended)))
}

/// Drops rows whose tokens have expired. Answers how many.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::delete(revoked_tokens::table.filter(revoked_tokens::expires_at.lt(before)))
        .execute(conn)
        .await?)
}
