//! Plain SQL on separate connections, for operations that Nightferry does not have: creating databases, filling them,
//! reading statistics.

use anyhow::{Context as _, Result};
use diesel::sql_types::{BigInt, Double, Text};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};

/// Executes statements one after the other, outside of a transaction.
pub(crate) async fn run<S: AsRef<str>>(url: &str, statements: &[S]) -> Result<()> {
    let mut conn = AsyncPgConnection::establish(url).await?;
    for statement in statements {
        let statement: &str = statement.as_ref();
        let start: String = statement.chars().take(60).collect();
        conn.batch_execute(statement).await.with_context(|| format!("{start}…"))?;
    }
    Ok(())
}

#[derive(diesel::QueryableByName)]
struct Answer {
    #[diesel(sql_type = Text)]
    text: String,
}

/// The single text value of a query with the column `text`.
pub(crate) async fn text(url: &str, query: &str) -> Result<String> {
    let mut conn = AsyncPgConnection::establish(url).await?;
    let row: Answer = diesel::sql_query(query).get_result(&mut conn).await?;
    Ok(row.text)
}

/// Accumulated work of a database (`pg_stat_database`).
#[derive(Debug, Clone, Copy, diesel::QueryableByName)]
pub(crate) struct Work {
    /// Transactions; a statement outside of a transaction counts as one.
    #[diesel(sql_type = BigInt)]
    pub(crate) transactions: i64,
    /// Milliseconds spent executing statements, summed over all connections.
    #[diesel(sql_type = Double)]
    pub(crate) active_ms: f64,
}

/// The work of a database, as reported so far: exact once its connections are closed.
pub(crate) async fn work(maintenance_url: &str, database: &str) -> Result<Work> {
    let mut conn = AsyncPgConnection::establish(maintenance_url).await?;
    let query = "SELECT xact_commit + xact_rollback AS transactions, active_time AS active_ms \
                 FROM pg_stat_database WHERE datname = $1";
    Ok(diesel::sql_query(query).bind::<Text, _>(database).get_result(&mut conn).await?)
}
