//! The `revoked_tokens` table: access tokens that were revoked before their expiry.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::schema::revoked_tokens;
use crate::error::Result;
use crate::ids::UserId;

/// Revokes an access token until its expiry. Idempotent.
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

/// Deletes rows whose tokens have expired. Returns their number.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::delete(revoked_tokens::table.filter(revoked_tokens::expires_at.lt(before)))
        .execute(conn)
        .await?)
}
