//! Restores the rows of a snapshot, in one transaction with exclusive write access.

use diesel::prelude::*;
use diesel::sql_types::{Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::{Table, columns};
use crate::error::{Error, Result};
use crate::replicas::Count;

/// Blocks other writers of the catalogue's tables until the end of the transaction, and checks whether the tables are
/// empty. Returns the non-empty ones with their row counts.
pub async fn take_over(conn: &mut AsyncPgConnection) -> Result<Vec<(Table, u64)>> {
    // The transaction takes as long as listing the stores and writing everything.
    for setting in ["statement_timeout", "idle_in_transaction_session_timeout"] {
        diesel::sql_query(format!("SET LOCAL {setting} = 0")).execute(conn).await?;
    }
    let names = Table::ALL.map(<&str>::from).join(", ");
    diesel::sql_query(format!("LOCK TABLE {names} IN EXCLUSIVE MODE")).execute(conn).await?;
    let mut filled = Vec::new();
    for table in Table::ALL {
        let sql = format!("SELECT count(*) AS count FROM {}", <&str>::from(table));
        let row: Count = diesel::sql_query(sql).get_result(conn).await?;
        if row.count > 0 {
            filled.push((table, crate::unsigned(row.count)));
        }
    }
    Ok(filled)
}

/// The account that was created at the first start, in a database that contains nothing else.
#[derive(Debug, Clone, QueryableByName)]
pub struct FirstAccount {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    email: String,
}

/// Sets the account of an administrator aside if, of the rows counted by [`take_over`], there is nothing but this account
/// and its root folder: the restored rows may have the same email address. Returns `None`, and changes nothing, if there
/// is anything else.
pub async fn set_aside(
    conn: &mut AsyncPgConnection,
    filled: &[(Table, u64)],
) -> Result<Option<FirstAccount>> {
    if !filled.iter().all(|(table, rows)| matches!(table, Table::Users | Table::Folders) && *rows == 1) {
        return Ok(None);
    }
    let account: Option<FirstAccount> = diesel::sql_query(
        "SELECT u.id, u.email FROM users u WHERE u.role = 'admin' \
           AND NOT EXISTS (SELECT 1 FROM folders f WHERE f.owner_id <> u.id OR f.parent_id IS NOT NULL)",
    )
    .get_result(conn)
    .await
    .optional()?;
    if let Some(account) = &account {
        diesel::sql_query(
            "UPDATE users SET email = 'set-aside-' || id || '@nightferry.invalid' WHERE id = $1",
        )
        .bind::<SqlUuid, _>(account.id)
        .execute(conn)
        .await?;
    }
    Ok(account)
}

/// Gives the account its email address back. If a restored account has that address, the account is deleted; a restored
/// one without a password of its own, which has `password_hash` as all accounts created by [`super::import_rows`], gets
/// its role and password.
pub async fn put_back(
    conn: &mut AsyncPgConnection,
    account: &FirstAccount,
    password_hash: &str,
) -> Result<()> {
    let returned = diesel::sql_query(
        "UPDATE users u SET email = $2 WHERE u.id = $1 \
           AND NOT EXISTS (SELECT 1 FROM users o WHERE lower(o.email) = lower($2::text))",
    )
    .bind::<SqlUuid, _>(account.id)
    .bind::<Text, _>(&account.email)
    .execute(conn)
    .await?;
    if returned == 0 {
        diesel::sql_query(
            "UPDATE users o SET password_hash = a.password_hash, role = a.role, disabled_at = NULL FROM users a \
             WHERE a.id = $1 AND o.id <> a.id AND lower(o.email) = lower($2::text) AND o.password_hash = $3",
        )
        .bind::<SqlUuid, _>(account.id)
        .bind::<Text, _>(&account.email)
        .bind::<Text, _>(password_hash)
        .execute(conn)
        .await?;
        diesel::sql_query("DELETE FROM folders WHERE owner_id = $1")
            .bind::<SqlUuid, _>(account.id)
            .execute(conn)
            .await?;
        diesel::sql_query("DELETE FROM users WHERE id = $1")
            .bind::<SqlUuid, _>(account.id)
            .execute(conn)
            .await?;
    }
    Ok(())
}

/// The statement that inserts rows with these columns into a table.
///
/// # Errors
/// [`Error::Validation`] with the names of unknown columns.
pub async fn insert_statement(
    conn: &mut AsyncPgConnection,
    table: Table,
    wanted: &[String],
) -> Result<String> {
    let known = columns(conn, table).await?;
    let unknown: Vec<&str> = wanted.iter().filter(|name| !known.contains(name)).map(String::as_str).collect();
    if !unknown.is_empty() {
        return Err(Error::field(<&str>::from(table), unknown.join(", ")));
    }
    // The names have been checked against the database.
    let names = wanted.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
    let table = <&str>::from(table);
    Ok(format!(
        "INSERT INTO {table} ({names}) SELECT {names} FROM jsonb_populate_recordset(NULL::{table}, $1::jsonb)"
    ))
}

/// Inserts rows, given as a JSON array, with a statement from [`insert_statement`]. Missing columns get their defaults.
pub async fn insert(conn: &mut AsyncPgConnection, statement: &str, rows: &str) -> Result<usize> {
    Ok(diesel::sql_query(statement).bind::<Text, _>(rows).execute(conn).await?)
}

/// Final steps: storage usage of the accounts, and planner statistics for the new tables.
pub async fn finish(conn: &mut AsyncPgConnection) -> Result<()> {
    diesel::sql_query(
        "UPDATE users u SET used_bytes = s.bytes FROM ( \
             SELECT u.id, coalesce(sum(o.size), 0)::bigint AS bytes FROM users u \
             LEFT JOIN files f ON f.owner_id = u.id LEFT JOIN file_versions v ON v.file_id = f.id \
             LEFT JOIN objects o ON o.id = v.object_id GROUP BY u.id \
         ) s WHERE s.id = u.id AND u.used_bytes <> s.bytes",
    )
    .execute(conn)
    .await?;
    let names = Table::ALL.map(<&str>::from).join(", ");
    diesel::sql_query(format!("ANALYZE {names}")).execute(conn).await?;
    Ok(())
}
