//! The `sign_in_failures` and `known_networks` tables: who guesses passwords from where, and from where owners come. An
//! account is named by a hash of the address given, whether or not it exists, so that nobody can tell the two apart.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::{known_networks, sign_in_failures};
use crate::error::Result;
use crate::ids::UserId;

/// An address that somebody wants to sign in with, as the tables name it.
pub type AccountHash = Vec<u8>;

/// What is known of one who wants to sign in, before the password is looked at.
#[derive(Debug, Clone, QueryableByName)]
pub struct Standing {
    /// The account.
    #[diesel(sql_type = Binary)]
    pub account: AccountHash,
    /// Until when this network may not try, if ever.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub blocked_until: Option<DateTime<Utc>>,
    /// Failures of the window, from everywhere.
    #[diesel(sql_type = BigInt)]
    pub failures: i64,
    /// When the first of them was.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub first_at: Option<DateTime<Utc>>,
    /// Whether the owner has signed in from this network before.
    #[diesel(sql_type = Bool)]
    pub known: bool,
}

/// Reads where one stands who wants to sign in as `email` from `network`: failures since `since` count. The same work
/// whether or not there is such an account.
pub async fn standing(
    conn: &mut AsyncPgConnection,
    email: &str,
    network: &str,
    since: DateTime<Utc>,
) -> Result<Standing> {
    Ok(diesel::sql_query(
        "WITH me AS (SELECT sha256(convert_to(lower($1), 'UTF8')) AS account) \
         SELECT me.account, \
             (SELECT f.blocked_until FROM sign_in_failures f WHERE f.account = me.account AND f.network = $2) \
                 AS blocked_until, \
             (SELECT coalesce(sum(f.failures), 0)::bigint FROM sign_in_failures f \
              WHERE f.account = me.account AND f.began_at > $3) AS failures, \
             (SELECT min(f.began_at) FROM sign_in_failures f WHERE f.account = me.account AND f.began_at > $3) \
                 AS first_at, \
             EXISTS (SELECT 1 FROM users u JOIN known_networks k ON k.user_id = u.id \
                     WHERE lower(u.email) = lower($1) AND k.network = $2) AS known \
         FROM me",
    )
    .bind::<Text, _>(email.trim())
    .bind::<Text, _>(network)
    .bind::<Timestamptz, _>(since)
    .get_result(conn)
    .await?)
}

/// Makes all who decide by the failures of one account wait for each other until the transaction ends: rows that are not
/// there yet, of other networks, cannot be locked. The lock's name is the beginning of the hash; two accounts that share it
/// would wait for each other, and nothing more.
pub async fn hold(conn: &mut AsyncPgConnection, account: &AccountHash) -> Result<()> {
    let name = account.first_chunk().map_or(0, |first| i64::from_be_bytes(*first));
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(name).execute(conn).await?;
    Ok(())
}

/// Failures of one account from one network.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, AsChangeset)]
#[diesel(table_name = sign_in_failures, check_for_backend(diesel::pg::Pg), treat_none_as_null = true)]
pub struct Failures {
    /// In the window.
    pub failures: i32,
    /// When the window began.
    pub began_at: DateTime<Utc>,
    /// How often in a row the limit was reached.
    pub blocks: i16,
    /// Until when this network may not try.
    pub blocked_until: Option<DateTime<Utc>>,
    /// From when on nothing of this matters.
    pub expires_at: DateTime<Utc>,
}

/// Makes sure that there is a row, and locks it: of failures at the same time each sees the ones before it. Answers the
/// row as it was before, or none when it is new and already says `first`.
pub async fn lock_or_begin(
    conn: &mut AsyncPgConnection,
    account: &AccountHash,
    network: &str,
    first: &Failures,
) -> Result<Option<Failures>> {
    let inserted = diesel::insert_into(sign_in_failures::table)
        .values((
            sign_in_failures::account.eq(account),
            sign_in_failures::network.eq(network),
            sign_in_failures::failures.eq(first.failures),
            sign_in_failures::began_at.eq(first.began_at),
            sign_in_failures::blocks.eq(first.blocks),
            sign_in_failures::blocked_until.eq(first.blocked_until),
            sign_in_failures::expires_at.eq(first.expires_at),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    if inserted == 1 { Ok(None) } else { lock(conn, account, network).await }
}

/// Reads a row and locks it.
pub async fn lock(
    conn: &mut AsyncPgConnection,
    account: &AccountHash,
    network: &str,
) -> Result<Option<Failures>> {
    Ok(sign_in_failures::table
        .find((account, network))
        .select(Failures::as_select())
        .for_update()
        .first(conn)
        .await
        .optional()?)
}

/// Writes a row that is locked.
pub async fn put(
    conn: &mut AsyncPgConnection,
    account: &AccountHash,
    network: &str,
    row: &Failures,
) -> Result<()> {
    diesel::update(sign_in_failures::table.find((account, network))).set(row).execute(conn).await?;
    Ok(())
}

/// Forgets the failures of an account from one network.
pub async fn forget(conn: &mut AsyncPgConnection, account: &AccountHash, network: &str) -> Result<()> {
    diesel::delete(sign_in_failures::table.find((account, network))).execute(conn).await?;
    Ok(())
}

/// Forgets the failures of an account from everywhere.
pub async fn forget_all(conn: &mut AsyncPgConnection, user: UserId) -> Result<()> {
    diesel::sql_query(
        "DELETE FROM sign_in_failures f USING users u \
         WHERE u.id = $1 AND f.account = sha256(convert_to(lower(u.email), 'UTF8'))",
    )
    .bind::<diesel::sql_types::Uuid, _>(user)
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that the owner of an account signed in from a network.
pub async fn note_network(
    conn: &mut AsyncPgConnection,
    user: UserId,
    network: &str,
    at: DateTime<Utc>,
) -> Result<()> {
    diesel::insert_into(known_networks::table)
        .values((
            known_networks::user_id.eq(user),
            known_networks::network.eq(network),
            known_networks::last_at.eq(at),
        ))
        .on_conflict((known_networks::user_id, known_networks::network))
        .do_update()
        .set(known_networks::last_at.eq(at))
        .execute(conn)
        .await?;
    Ok(())
}

/// How long a network from which nobody signs in any more stays known.
const KNOWN_FOR: chrono::Duration = chrono::Duration::days(180);

/// Drops what does not matter any more. Answers how many rows went.
pub async fn purge(conn: &mut AsyncPgConnection, now: DateTime<Utc>) -> Result<usize> {
    let failures = diesel::delete(sign_in_failures::table.filter(sign_in_failures::expires_at.lt(now)))
        .execute(conn)
        .await?;
    let networks = diesel::delete(known_networks::table.filter(known_networks::last_at.lt(now - KNOWN_FOR)))
        .execute(conn)
        .await?;
    Ok(failures + networks)
}
