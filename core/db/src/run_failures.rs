//! The `run_failures` table: one row per failed item of a run, with the reason as text.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::schema::run_failures;
use crate::error::Result;
use crate::ids::{FileId, ObjectId, RunId};

/// A failed item of a run.
#[derive(Debug, Clone, QueryableByName)]
pub struct RunFailure {
    /// Id, which is also the order.
    #[diesel(sql_type = diesel::sql_types::Uuid)]
    pub id: Uuid,
    /// The object.
    #[diesel(sql_type = diesel::sql_types::Uuid)]
    pub object_id: ObjectId,
    /// The file with this version, if it still exists.
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Uuid>)]
    pub file_id: Option<FileId>,
    /// Name of that file.
    #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
    pub filename: Option<String>,
    /// Destination.
    #[diesel(sql_type = diesel::sql_types::Text)]
    pub store: String,
    /// The number of attempts.
    #[diesel(sql_type = diesel::sql_types::Integer)]
    pub attempts: i32,
    /// The reason as text.
    #[diesel(sql_type = diesel::sql_types::Text)]
    pub error: String,
    /// When.
    #[diesel(sql_type = diesel::sql_types::Timestamptz)]
    pub created_at: DateTime<Utc>,
}

/// A new failure.
#[derive(Debug, Insertable)]
#[diesel(table_name = run_failures)]
pub struct NewRunFailure<'a> {
    /// Id.
    pub id: Uuid,
    /// Run.
    pub run_id: RunId,
    /// Object.
    pub object_id: ObjectId,
    /// Destination.
    pub store: &'a str,
    /// The number of attempts.
    pub attempts: i32,
    /// The reason as text.
    pub error: &'a str,
}

/// Inserts failures in one statement.
pub async fn insert(conn: &mut AsyncPgConnection, failures: &[NewRunFailure<'_>]) -> Result<()> {
    diesel::insert_into(run_failures::table).values(failures).execute(conn).await?;
    Ok(())
}

/// The failures of a run in order, after `after`, at most `limit`.
pub async fn page(
    conn: &mut AsyncPgConnection,
    run: RunId,
    after: Option<Uuid>,
    limit: i64,
) -> Result<Vec<RunFailure>> {
    Ok(diesel::sql_query(
        "SELECT f.id, f.object_id, v.file_id, v.filename, f.store, f.attempts, f.error, f.created_at \
         FROM run_failures f \
         LEFT JOIN LATERAL ( \
             SELECT fv.file_id, fi.filename FROM file_versions fv JOIN files fi ON fi.id = fv.file_id \
             WHERE fv.object_id = f.object_id ORDER BY fv.number DESC LIMIT 1 \
         ) v ON true \
         WHERE f.run_id = $1 AND ($2::uuid IS NULL OR f.id > $2) ORDER BY f.id LIMIT $3",
    )
    .bind::<diesel::sql_types::Uuid, _>(run)
    .bind::<diesel::sql_types::Nullable<diesel::sql_types::Uuid>, _>(after)
    .bind::<diesel::sql_types::BigInt, _>(limit)
    .load(conn)
    .await?)
}
