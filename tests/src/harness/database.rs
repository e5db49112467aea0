//! Plain SQL for tests that examine the database.

use diesel::sql_types::{BigInt, Text};
use diesel_async::{AnsiTransactionManager, AsyncPgConnection, RunQueryDsl, TransactionManager};
use nightferry_core::db::Database;
use nightferry_core::error::Result;

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    text: String,
}

/// The first column of a query, as text.
pub async fn texts(db: &Database, sql: &str) -> Vec<String> {
    texts_on(&mut db.conn().await.unwrap(), sql).await
}

/// As [`texts`], on a connection held by the test.
pub async fn texts_on(conn: &mut AsyncPgConnection, sql: &str) -> Vec<String> {
    // EXPLAIN cannot be a subquery, and determines the name of its only column.
    let sql = if sql.starts_with("EXPLAIN") {
        return explain(conn, sql).await;
    } else {
        format!("SELECT line::text AS text FROM ({sql}) AS q (line)")
    };
    let rows: Vec<Row> = diesel::sql_query(sql).load(conn).await.unwrap();
    rows.into_iter().map(|row| row.text).collect()
}

#[derive(diesel::QueryableByName)]
struct PlanLine {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

async fn explain(conn: &mut AsyncPgConnection, sql: &str) -> Vec<String> {
    let rows: Vec<PlanLine> = diesel::sql_query(sql).load(conn).await.unwrap();
    rows.into_iter().map(|row| row.line).collect()
}

/// Executes a statement.
///
/// # Errors
/// The error of the database.
pub async fn execute(db: &Database, sql: &str) -> Result<usize> {
    let mut conn = db.conn().await?;
    Ok(diesel::sql_query(sql).execute(&mut conn).await?)
}

#[derive(diesel::QueryableByName)]
struct Read {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

async fn read_by(conn: &mut AsyncPgConnection) -> i64 {
    let sql = "SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0))::bigint AS rows \
               FROM pg_stat_xact_user_tables";
    diesel::sql_query(sql).get_result::<Read>(conn).await.unwrap().rows
}

/// The number of rows of tables that `look` reads, in a separate transaction, and its result.
pub async fn rows_read<T>(
    db: &Database,
    look: impl AsyncFnOnce(&mut AsyncPgConnection) -> Result<T>,
) -> (i64, T) {
    let mut conn = db.conn().await.unwrap();
    AnsiTransactionManager::begin_transaction(&mut *conn).await.unwrap();
    // Earlier reads of the connection may not be counted in the statistics yet.
    let before = read_by(&mut conn).await;
    let answer = look(&mut conn).await.unwrap();
    let read = read_by(&mut conn).await - before;
    AnsiTransactionManager::commit_transaction(&mut *conn).await.unwrap();
    (read, answer)
}

/// Executes a statement on a connection held by the test, for example in a transaction.
pub async fn execute_on(conn: &mut nightferry_core::db::Connection<'_>, sql: &str) -> usize {
    diesel::sql_query(sql).execute(conn).await.unwrap()
}
