//! Changes since a plan was made.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::disable_statement_timeout;
use crate::error::Result;
use crate::ids::{FileId, ObjectId, PlanId};

/// An item that can no longer be executed as planned.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(table_name = crate::schema::plan_items)]
pub struct Change {
    /// Object.
    pub object_id: ObjectId,
    /// Destination.
    pub store: String,
    /// The file of the item.
    pub file_id: Option<FileId>,
    /// Its name at that time.
    pub filename: Option<String>,
    /// `deleted`, `overwritten`, `moved` or `unreadable`.
    #[diesel(sql_type = Text)]
    pub what: String,
    /// The total number of changes.
    #[diesel(sql_type = BigInt)]
    pub total: i64,
}

/// The first `limit` changes since a plan was made: files that were deleted or overwritten, copies that exist or are in
/// progress, and objects without a verified copy to copy from. A plan without changes is valid.
///
/// Part of a transaction, in which it disables the statement timeout, because a plan may cover millions of rows.
pub async fn changes(conn: &mut AsyncPgConnection, plan: PlanId, limit: i64) -> Result<Vec<Change>> {
    disable_statement_timeout(conn).await?;
    Ok(diesel::sql_query(
        "SELECT object_id, store, file_id, filename, what, count(*) OVER () AS total FROM ( \
             SELECT i.object_id, i.store, i.file_id, i.filename, CASE \
                 WHEN o.id IS NULL OR o.state <> 'stored' OR (i.file_id IS NOT NULL AND (f.id IS NULL OR f.deleted_at IS NOT NULL)) \
                     THEN 'deleted' \
                 WHEN f.current_version <> i.current_version THEN 'overwritten' \
                 WHEN r.state IN ('present', 'copying', 'evicting') THEN 'moved' \
                 WHEN NOT EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = i.object_id AND s.store <> i.store \
                                  AND s.state = 'present') THEN 'unreadable' \
             END AS what \
             FROM plan_items i LEFT JOIN objects o ON o.id = i.object_id LEFT JOIN files f ON f.id = i.file_id \
             LEFT JOIN replicas r ON r.object_id = i.object_id AND r.store = i.store \
             WHERE i.plan_id = $1 \
         ) c WHERE what IS NOT NULL ORDER BY object_id, store LIMIT $2",
    )
    .bind::<SqlUuid, _>(plan)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}
