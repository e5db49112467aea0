//! The `signing_keys` table. Contains encrypted keys only.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::signing_keys;
use crate::error::Result;

/// An arbitrary constant: identifies the advisory lock for creating keys.
const ADVISORY_LOCK: i64 = 0x6e69_6768_746b_6579;

/// A key that signs access tokens.
#[derive(Debug, Clone, Queryable, Selectable, Insertable)]
#[diesel(table_name = signing_keys, check_for_backend(diesel::pg::Pg))]
pub struct SigningKeyRow {
    /// The `kid` of its signatures.
    pub id: String,
    /// Algorithm, the only one it is used with.
    pub algorithm: String,
    /// The private key, encrypted.
    #[diesel(column_name = sealed)]
    pub encrypted: Vec<u8>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it starts to sign.
    pub signs_from: DateTime<Utc>,
    /// When the last token that it signed has expired; `None` without a successor.
    pub verifies_until: Option<DateTime<Utc>>,
}

/// Prevents other processes from creating keys until the end of the transaction.
pub async fn lock(conn: &mut AsyncPgConnection) -> Result<()> {
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)")
        .bind::<diesel::sql_types::BigInt, _>(ADVISORY_LOCK)
        .execute(conn)
        .await?;
    Ok(())
}

/// The keys whose tokens are still accepted at `now`, ordered by when they start to sign. A small number.
pub async fn live(conn: &mut AsyncPgConnection, now: DateTime<Utc>) -> Result<Vec<SigningKeyRow>> {
    Ok(signing_keys::table
        .filter(signing_keys::verifies_until.is_null().or(signing_keys::verifies_until.gt(now)))
        .select(SigningKeyRow::as_select())
        .order((signing_keys::signs_from, signing_keys::id))
        .load(conn)
        .await?)
}

/// Inserts a key.
pub async fn insert(conn: &mut AsyncPgConnection, key: &SigningKeyRow) -> Result<()> {
    diesel::insert_into(signing_keys::table).values(key).execute(conn).await?;
    Ok(())
}

/// Sets for every key except `successor` until when its tokens are accepted, unless it is already earlier. Returns the
/// number of keys.
pub async fn retire(
    conn: &mut AsyncPgConnection,
    successor: &str,
    verifies_until: DateTime<Utc>,
) -> Result<usize> {
    Ok(diesel::update(
        signing_keys::table.filter(signing_keys::id.ne(successor)).filter(
            signing_keys::verifies_until.is_null().or(signing_keys::verifies_until.gt(verifies_until)),
        ),
    )
    .set(signing_keys::verifies_until.eq(verifies_until))
    .execute(conn)
    .await?)
}

/// Deletes keys whose tokens had all expired before `before`. Returns their number.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::delete(signing_keys::table.filter(signing_keys::verifies_until.lt(before)))
        .execute(conn)
        .await?)
}
