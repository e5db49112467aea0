//! Plain SQL for tests that look at the database itself.

use diesel::sql_types::Text;
use diesel_async::RunQueryDsl;
use nightferry_core::db::Database;
use nightferry_core::error::Result;

#[derive(diesel::QueryableByName)]
struct Row {
    #[diesel(sql_type = Text)]
    text: String,
}

/// The first column of a query, as text.
pub async fn texts(db: &Database, sql: &str) -> Vec<String> {
    let mut conn = db.conn().await.unwrap();
    // EXPLAIN cannot be a subquery, and names its only column itself.
    let sql = if sql.starts_with("EXPLAIN") {
        return explain(&mut conn, sql).await;
    } else {
        format!("SELECT line::text AS text FROM ({sql}) AS q (line)")
    };
    let rows: Vec<Row> = diesel::sql_query(sql).load(&mut conn).await.unwrap();
    rows.into_iter().map(|row| row.text).collect()
}

#[derive(diesel::QueryableByName)]
struct PlanLine {
    #[diesel(sql_type = Text, column_name = "QUERY PLAN")]
    line: String,
}

async fn explain(conn: &mut nightferry_core::db::Connection<'_>, sql: &str) -> Vec<String> {
    let rows: Vec<PlanLine> = diesel::sql_query(sql).load(conn).await.unwrap();
    rows.into_iter().map(|row| row.line).collect()
}

/// Executes a statement.
///
/// # Errors
/// What the database says against it.
pub async fn execute(db: &Database, sql: &str) -> Result<usize> {
    let mut conn = db.conn().await?;
    Ok(diesel::sql_query(sql).execute(&mut conn).await?)
}

/// Executes a statement on a connection that the test holds: one of a transaction, say.
pub async fn execute_on(conn: &mut nightferry_core::db::Connection<'_>, sql: &str) -> usize {
    diesel::sql_query(sql).execute(conn).await.unwrap()
}
