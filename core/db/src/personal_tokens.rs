//! The `personal_tokens` table. Holds hashes, never tokens.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::{personal_tokens, users};
use super::users::User;
use crate::error::Result;
use crate::ids::{PersonalTokenId, UserId};

/// A personal access token.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = personal_tokens, check_for_backend(diesel::pg::Pg))]
pub struct PersonalToken {
    /// Id.
    pub id: PersonalTokenId,
    /// Account.
    pub user_id: UserId,
    /// Name.
    pub name: String,
    /// Names of its scopes, separated by spaces.
    pub scopes: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it expires; null: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, exact to about ten minutes.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A new token.
#[derive(Debug, Insertable)]
#[diesel(table_name = personal_tokens)]
pub struct NewPersonalToken<'a> {
    /// Id.
    pub id: PersonalTokenId,
    /// Account.
    pub user_id: UserId,
    /// Name.
    pub name: &'a str,
    /// SHA-256 of the token.
    pub token_hash: &'a [u8],
    /// Names of its scopes, separated by spaces.
    pub scopes: &'a str,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it expires; null: never.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Inserts a token.
pub async fn insert(conn: &mut AsyncPgConnection, token: &NewPersonalToken<'_>) -> Result<PersonalToken> {
    Ok(diesel::insert_into(personal_tokens::table)
        .values(token)
        .returning(PersonalToken::as_returning())
        .get_result(conn)
        .await?)
}

/// The number of tokens of a user that have not been revoked.
pub async fn count(conn: &mut AsyncPgConnection, user: UserId) -> Result<i64> {
    Ok(personal_tokens::table
        .filter(personal_tokens::user_id.eq(user))
        .filter(personal_tokens::revoked_at.is_null())
        .count()
        .get_result(conn)
        .await?)
}

/// The tokens of a user that have not been revoked, newest first. Bounded by the maximum number per account.
pub async fn of_user(conn: &mut AsyncPgConnection, user: UserId) -> Result<Vec<PersonalToken>> {
    Ok(personal_tokens::table
        .filter(personal_tokens::user_id.eq(user))
        .filter(personal_tokens::revoked_at.is_null())
        .select(PersonalToken::as_select())
        .order(personal_tokens::id.desc())
        .load(conn)
        .await?)
}

/// Finds a token and its account by the hash of the token, in one round trip.
pub async fn by_hash(conn: &mut AsyncPgConnection, hash: &[u8]) -> Result<Option<(PersonalToken, User)>> {
    Ok(personal_tokens::table
        .inner_join(users::table)
        .filter(personal_tokens::token_hash.eq(hash))
        .select((PersonalToken::as_select(), User::as_select()))
        .first(conn)
        .await
        .optional()?)
}

/// Records the use of a token, unless a use since `stale` has been recorded.
pub async fn touch(
    conn: &mut AsyncPgConnection,
    id: PersonalTokenId,
    at: DateTime<Utc>,
    stale: DateTime<Utc>,
) -> Result<()> {
    diesel::update(
        personal_tokens::table
            .find(id)
            .filter(personal_tokens::last_used_at.is_null().or(personal_tokens::last_used_at.le(stale))),
    )
    .set(personal_tokens::last_used_at.eq(at))
    .execute(conn)
    .await?;
    Ok(())
}

/// Revokes a token of any user, or of one user. Returns its account.
pub async fn revoke(
    conn: &mut AsyncPgConnection,
    id: PersonalTokenId,
    user: Option<UserId>,
    at: DateTime<Utc>,
) -> Result<Option<PersonalToken>> {
    let mut query = diesel::update(personal_tokens::table)
        .set(personal_tokens::revoked_at.eq(at))
        .filter(personal_tokens::id.eq(id))
        .filter(personal_tokens::revoked_at.is_null())
        .returning(PersonalToken::as_returning())
        .into_boxed();
    if let Some(user) = user {
        query = query.filter(personal_tokens::user_id.eq(user));
    }
    Ok(query.get_result(conn).await.optional()?)
}

/// Revokes all tokens of a user. Returns their number.
pub async fn revoke_all(conn: &mut AsyncPgConnection, user: UserId, at: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::update(
        personal_tokens::table
            .filter(personal_tokens::user_id.eq(user))
            .filter(personal_tokens::revoked_at.is_null()),
    )
    .set(personal_tokens::revoked_at.eq(at))
    .execute(conn)
    .await?)
}

/// Deletes tokens that were revoked before `before`. Returns their number.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::delete(personal_tokens::table.filter(personal_tokens::revoked_at.lt(before)))
        .execute(conn)
        .await?)
}
