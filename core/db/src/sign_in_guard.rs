//! The `sign_in_failures` and `known_networks` tables: failed sign-ins by account and network, and the networks of
//! owners. An account is identified by a hash of the given email address, whether or not it exists, so that both cases
//! are indistinguishable.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Binary, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::{known_networks, sign_in_failures};
use crate::error::Result;
use crate::ids::UserId;

/// The email address of a sign-in attempt, as stored in the tables.
pub type AccountHash = Vec<u8>;

/// The history of an account and network, before the password is checked.
#[derive(Debug, Clone, QueryableByName)]
pub struct LoginHistory {
    /// The account.
    #[diesel(sql_type = Binary)]
    pub account: AccountHash,
    /// Until when this network is locked out, if it is.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub blocked_until: Option<DateTime<Utc>>,
    /// Failures within the window, from all networks.
    #[diesel(sql_type = BigInt)]
    pub failures: i64,
    /// When the first of them occurred.
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub first_at: Option<DateTime<Utc>>,
    /// Whether the account owner has signed in from this network before.
    #[diesel(sql_type = Bool)]
    pub known: bool,
}

/// Reads the history for signing in as `email` from `network`: failures since `since` count. The same work whether or
/// not the account exists.
pub async fn history(
    conn: &mut AsyncPgConnection,
    email: &str,
    network: &str,
    since: DateTime<Utc>,
) -> Result<LoginHistory> {
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

/// Serializes all transactions that decide by the failures of one account, until the end of the transaction: rows of
/// other networks that do not exist yet cannot be locked. The lock id is the start of the hash; two accounts that share
/// it would wait for each other, without further effects.
pub async fn hold(conn: &mut AsyncPgConnection, account: &AccountHash) -> Result<()> {
    let name = account.first_chunk().map_or(0, |first| i64::from_be_bytes(*first));
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)").bind::<BigInt, _>(name).execute(conn).await?;
    Ok(())
}

/// The failures of one account from one network.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, Insertable, AsChangeset)]
#[diesel(table_name = sign_in_failures, check_for_backend(diesel::pg::Pg), treat_none_as_null = true)]
pub struct Failures {
    /// Within the window.
    pub failures: i32,
    /// When the window started.
    pub began_at: DateTime<Utc>,
    /// How many times in a row the limit was reached.
    pub blocks: i16,
    /// Until when this network is locked out.
    pub blocked_until: Option<DateTime<Utc>>,
    /// When the row expires.
    pub expires_at: DateTime<Utc>,
}

/// Ensures that there is a row, and locks it: concurrent failures see each other. Returns the previous row, or `None`
/// if it is new and already contains `first`.
pub async fn lock_or_insert(
    conn: &mut AsyncPgConnection,
    account: &AccountHash,
    network: &str,
    first: &Failures,
) -> Result<Option<Failures>> {
    let inserted = diesel::insert_into(sign_in_failures::table)
        .values((sign_in_failures::account.eq(account), sign_in_failures::network.eq(network), first))
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

/// Writes a locked row.
pub async fn put(
    conn: &mut AsyncPgConnection,
    account: &AccountHash,
    network: &str,
    row: &Failures,
) -> Result<()> {
    diesel::update(sign_in_failures::table.find((account, network))).set(row).execute(conn).await?;
    Ok(())
}

/// Deletes the failures of an account from one network.
pub async fn forget(conn: &mut AsyncPgConnection, account: &AccountHash, network: &str) -> Result<()> {
    diesel::delete(sign_in_failures::table.find((account, network))).execute(conn).await?;
    Ok(())
}

/// Deletes the failures of an account from all networks.
pub async fn delete_all_failures(conn: &mut AsyncPgConnection, user: UserId) -> Result<()> {
    diesel::sql_query(
        "DELETE FROM sign_in_failures f USING users u \
         WHERE u.id = $1 AND f.account = sha256(convert_to(lower(u.email), 'UTF8'))",
    )
    .bind::<diesel::sql_types::Uuid, _>(user)
    .execute(conn)
    .await?;
    Ok(())
}

/// Records that the owner of an account signed in from a network.
pub async fn record_network(
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

/// How long a network is stored after the last sign-in.
const KNOWN_FOR: chrono::Duration = chrono::Duration::days(180);

/// Deletes expired rows. Returns their number.
pub async fn purge(conn: &mut AsyncPgConnection, now: DateTime<Utc>) -> Result<usize> {
    let failures = diesel::delete(sign_in_failures::table.filter(sign_in_failures::expires_at.lt(now)))
        .execute(conn)
        .await?;
    let networks = diesel::delete(known_networks::table.filter(known_networks::last_at.lt(now - KNOWN_FOR)))
        .execute(conn)
        .await?;
    Ok(failures + networks)
}
