//! The `run_failures` table: one row per failed item of a run, with the reason as text.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::policy::Patience;
use super::schema::run_failures;
use crate::error::Result;
use crate::ids::{FileId, ObjectId, RunId};

/// A failed item of a run.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(table_name = crate::schema::run_failures)]
pub struct RunFailure {
    /// Id, which is also the order.
    pub id: Uuid,
    /// The object.
    pub object_id: ObjectId,
    /// The file with this version, if it still exists.
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Uuid>)]
    pub file_id: Option<FileId>,
    /// Name of that file.
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
    pub filename: Option<String>,
    /// Destination.
    pub store: String,
    /// The number of attempts.
    pub attempts: i32,
    /// The reason as text.
    pub error: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// From when on a run takes up the copy again, if it is still failed.
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Timestamptz>)]
    pub retry_at: Option<DateTime<Utc>>,
}

/// Inserts a failure of a run: the copy of an object to `store` failed after this number of attempts.
pub async fn insert(
    conn: &mut AsyncPgConnection,
    run: RunId,
    object: ObjectId,
    store: &str,
    attempts: i32,
    error: &str,
) -> Result<()> {
    diesel::insert_into(run_failures::table)
        .values((
            run_failures::id.eq(Uuid::now_v7()),
            run_failures::run_id.eq(run),
            run_failures::object_id.eq(object),
            run_failures::store.eq(store),
            run_failures::attempts.eq(attempts),
            run_failures::error.eq(error),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// The failures of a run in order, after `after`, at most `limit`.
pub async fn page(
    conn: &mut AsyncPgConnection,
    run: RunId,
    after: Option<Uuid>,
    limit: i64,
    patience: Patience,
) -> Result<Vec<RunFailure>> {
    let retry_at = patience.due_sql("r");
    let sql = format!(
        "SELECT f.id, f.object_id, v.file_id, v.filename, f.store, f.attempts, f.error, f.created_at, {retry_at} AS retry_at \
         FROM run_failures f \
         LEFT JOIN replicas r ON r.object_id = f.object_id AND r.store = f.store AND r.state = 'failed' \
         LEFT JOIN LATERAL ( \
             SELECT fv.file_id, fi.filename FROM file_versions fv JOIN files fi ON fi.id = fv.file_id \
             WHERE fv.object_id = f.object_id ORDER BY fv.number DESC LIMIT 1 \
         ) v ON true \
         WHERE f.run_id = $1 AND ($2::uuid IS NULL OR f.id > $2) ORDER BY f.id LIMIT $3"
    );
    Ok(diesel::sql_query(sql)
        .bind::<diesel::sql_types::Uuid, _>(run)
        .bind::<diesel::sql_types::Nullable<diesel::sql_types::Uuid>, _>(after)
        .bind::<diesel::sql_types::BigInt, _>(limit)
        .load(conn)
        .await?)
}
