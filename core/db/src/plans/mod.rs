//! The `plans` and `plan_items` tables: saved plans. Made with the same SELECT statement as runs, so that both have the
//! same result.

mod changes;
mod execute;
mod make;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};

use super::schema::plans;
use crate::error::{Error, Result};
use crate::ids::{FileId, ObjectId, PlanId, UserId};

pub use changes::{Change, changes};
pub use execute::Execution;
pub use make::{Parts, fill, insert};

/// A saved plan.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = plans, check_for_backend(diesel::pg::Pg))]
pub struct Plan {
    /// Id.
    pub id: PlanId,
    /// The account that requested it, if any.
    pub requested_by: Option<UserId>,
    /// Scope.
    pub scope: serde_json::Value,
    /// Fingerprint of the rules by which it was made.
    pub fingerprint: String,
    /// Totals, see [`Plan::groups`].
    pub groups: serde_json::Value,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// Until when it can be executed.
    pub expires_at: DateTime<Utc>,
}

impl Plan {
    /// The totals by rule, store and storage class.
    ///
    /// # Errors
    /// [`Error::Internal`] if the column contains something unknown to this version.
    pub fn groups(&self) -> Result<Vec<Group>> {
        serde_json::from_value(self.groups.clone())
            .map_err(|error| Error::Internal(format!("plan {} has invalid totals: {error}", self.id)))
    }
}

/// The totals for one rule, store and storage class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, QueryableByName)]
#[diesel(table_name = crate::schema::plan_items)]
pub struct Group {
    /// The rule.
    pub rule: String,
    /// Destination.
    pub store: String,
    /// Storage class; `None`: the default of the store.
    pub storage_class: Option<String>,
    /// Number of copies.
    #[diesel(sql_type = BigInt)]
    pub files: i64,
    /// Their bytes.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
    /// PUT requests, including the parts of large files and the two requests that start and complete a multipart
    /// upload.
    #[diesel(sql_type = BigInt)]
    pub requests: i64,
    /// Copies of less than 128 KiB.
    #[diesel(sql_type = BigInt)]
    pub small_files: i64,
    /// Their bytes.
    #[diesel(sql_type = BigInt)]
    pub small_bytes: i64,
}

/// One copy of a plan.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(table_name = crate::schema::plan_items)]
pub struct Item {
    /// Object.
    pub object_id: ObjectId,
    /// Destination.
    pub store: String,
    /// The rule that applies.
    pub rule: String,
    /// Storage class; `None`: the default of the store.
    pub storage_class: Option<String>,
    /// Priority.
    pub priority: i16,
    /// Size in bytes.
    pub size: i64,
    /// A file that has the object as a version.
    pub file_id: Option<FileId>,
    /// Its name.
    pub filename: Option<String>,
    /// The version number.
    pub version: Option<i32>,
}

/// The position after a page of items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// Object of the last item.
    pub object: ObjectId,
    /// Store.
    pub store: String,
}

/// Finds a plan, including expired ones.
pub async fn find(conn: &mut AsyncPgConnection, id: PlanId) -> Result<Option<Plan>> {
    Ok(plans::table.find(id).select(Plan::as_select()).first(conn).await.optional()?)
}

/// The items of a plan in object order, after `after`, at most `limit`.
pub async fn page(
    conn: &mut AsyncPgConnection,
    plan: PlanId,
    after: Option<&Position>,
    limit: i64,
) -> Result<Vec<Item>> {
    let (object, store) =
        after.map_or((uuid::Uuid::nil(), ""), |after| (after.object.0, after.store.as_str()));
    Ok(diesel::sql_query(
        "SELECT object_id, store, rule, storage_class, priority, size, file_id, filename, version FROM plan_items \
         WHERE plan_id = $1 AND (object_id, store) > ($2, $3) ORDER BY object_id, store LIMIT $4",
    )
    .bind::<SqlUuid, _>(plan)
    .bind::<SqlUuid, _>(object)
    .bind::<Text, _>(store)
    .bind::<BigInt, _>(limit)
    .load(conn)
    .await?)
}

/// Deletes up to `limit` items of expired plans, and the plans without items. Returns whether there may be more.
pub async fn purge(conn: &mut AsyncPgConnection, limit: i64) -> Result<bool> {
    let items = diesel::sql_query(
        "DELETE FROM plan_items i USING ( \
             SELECT x.plan_id, x.object_id, x.store FROM plan_items x JOIN plans p ON p.id = x.plan_id \
             WHERE p.expires_at < now() LIMIT $1 \
         ) gone WHERE i.plan_id = gone.plan_id AND i.object_id = gone.object_id AND i.store = gone.store",
    )
    .bind::<BigInt, _>(limit)
    .execute(conn)
    .await?;
    diesel::sql_query(
        "DELETE FROM plans p WHERE p.expires_at < now() \
           AND NOT EXISTS (SELECT 1 FROM plan_items i WHERE i.plan_id = p.id)",
    )
    .execute(conn)
    .await?;
    Ok(i64::try_from(items).unwrap_or(i64::MAX) >= limit)
}
