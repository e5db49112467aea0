//! Reads the catalogue in one transaction with a consistent snapshot, page by page through a cursor.

use chrono::{DateTime, Utc};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::found::stored_size;
use super::{PAGE, Table};
use crate::error::Result;
use crate::schema::runs;

/// Timeouts for one page, and for the time between two pages: a slow upload to the cloud store keeps the transaction
/// open. It holds no locks, but dead rows cannot be vacuumed in the meantime.
const READ_TIMEOUT: &str = "15min";

/// Reads in a transaction that has just started.
pub struct Reader<'c> {
    conn: &'c mut AsyncPgConnection,
}

#[derive(QueryableByName)]
struct TextRow {
    #[diesel(sql_type = Text)]
    text: String,
}

/// One line for each row of a table: `{"table", "row"}`; for replicas also their object.
fn lines(table: Table) -> String {
    let name = <&str>::from(table);
    let excluded = table.excluded();
    let row = |alias: &str| match excluded {
        [] => format!("to_jsonb({alias})"),
        some => format!("to_jsonb({alias}) - ARRAY['{}']", some.join("','")),
    };
    let line = |row: &str| format!("json_build_object('table', '{name}', 'row', {row})::text AS text");
    match table {
        Table::Users | Table::Files | Table::FileVersions => {
            format!("SELECT {} FROM {name} t", line(&row("t")))
        }
        Table::Folders => format!(
            "WITH RECURSIVE tree (id, height) AS ( \
                 SELECT id, 1 FROM folders WHERE parent_id IS NULL \
                 UNION ALL SELECT f.id, tree.height + 1 FROM tree JOIN folders f ON f.parent_id = tree.id \
             ) SELECT {} FROM tree JOIN folders t ON t.id = tree.id ORDER BY tree.height",
            line(&row("t"))
        ),
        Table::Objects => {
            format!(
                "SELECT {} FROM objects t WHERE t.state = 'stored' ORDER BY t.key COLLATE \"C\"",
                line(&row("t"))
            )
        }
        // A copy that is being deleted is treated as deleted, and one that is being made as queued. Rows are sorted
        // before the conversion to JSON, which is three times as large.
        Table::Replicas => format!(
            "SELECT json_build_object('table', 'replicas', 'key', q.key, 'size', q.size, \
                    'sha256', encode(q.sha256, 'hex'), 'row', {} || jsonb_build_object('state', \
                    CASE (q.t).state WHEN 'copying' THEN 'queued' ELSE (q.t).state::text END))::text AS text \
             FROM (SELECT t, o.key, {} AS size, o.sha256 FROM replicas t JOIN objects o ON o.id = t.object_id \
                   WHERE o.state = 'stored' AND t.state <> 'evicting' \
                   ORDER BY o.key COLLATE \"C\", t.store OFFSET 0) q",
            row("q.t"),
            stored_size("o.size", "t.key_id IS NOT NULL"),
        ),
    }
}

impl<'c> Reader<'c> {
    /// Call this at the start of a transaction. Also returns the time of its snapshot.
    pub async fn begin(conn: &'c mut AsyncPgConnection) -> Result<(Self, DateTime<Utc>)> {
        for sql in [
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY".to_owned(),
            format!("SET LOCAL statement_timeout = '{READ_TIMEOUT}'"),
            format!("SET LOCAL idle_in_transaction_session_timeout = '{READ_TIMEOUT}'"),
        ] {
            diesel::sql_query(sql).execute(conn).await?;
        }
        let at: DateTime<Utc> = diesel::select(sql::<Timestamptz>("now()")).get_result(conn).await?;
        Ok((Self { conn }, at))
    }

    /// The columns that [`Self::page`] returns for a table, and the latest migration.
    pub async fn columns(&mut self, table: Table) -> Result<Vec<String>> {
        let columns = super::columns(self.conn, table).await?;
        Ok(columns.into_iter().filter(|name| !table.excluded().contains(&name.as_str())).collect())
    }

    /// See [`schema`].
    pub async fn schema(&mut self) -> Result<String> {
        schema(self.conn).await
    }

    /// Starts to read a table.
    pub async fn start(&mut self, table: Table) -> Result<()> {
        let sql = format!("DECLARE catalog_rows NO SCROLL CURSOR FOR {}", lines(table));
        diesel::sql_query(sql).execute(self.conn).await?;
        Ok(())
    }

    /// The next rows as lines of JSON, at most [`PAGE`]; `None` at the end of the table.
    pub async fn page(&mut self) -> Result<Vec<String>> {
        let sql = format!("FETCH FORWARD {PAGE} FROM catalog_rows");
        let rows: Vec<TextRow> = diesel::sql_query(sql).load(self.conn).await?;
        if rows.is_empty() {
            diesel::sql_query("CLOSE catalog_rows").execute(self.conn).await?;
        }
        Ok(rows.into_iter().map(|row| row.text).collect())
    }
}

/// Version of the latest migration.
pub async fn schema(conn: &mut AsyncPgConnection) -> Result<String> {
    let row: TextRow =
        diesel::sql_query("SELECT coalesce(max(version), '') AS text FROM __diesel_schema_migrations")
            .get_result(conn)
            .await?;
    Ok(row.text)
}

/// The stored columns of a table, in order.
pub(super) async fn columns(conn: &mut AsyncPgConnection, table: Table) -> Result<Vec<String>> {
    let rows: Vec<TextRow> = diesel::sql_query(
        "SELECT attname::text AS text FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 \
         AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
    )
    .bind::<Text, _>(<&str>::from(table))
    .load(conn)
    .await?;
    Ok(rows.into_iter().map(|row| row.text).collect())
}

/// When the last run ended that changed the location of anything.
pub async fn last_change(conn: &mut AsyncPgConnection) -> Result<Option<DateTime<Utc>>> {
    let changing = runs::table.filter(runs::files_done.gt(0));
    Ok(changing.select(diesel::dsl::max(runs::finished_at)).first(conn).await?)
}
