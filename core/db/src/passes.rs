//! The `passes` table: the report of the last completed pass of each kind.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Double, Jsonb, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::passes;
use crate::error::Result;

/// A kind of pass and the report of the last one.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = passes, check_for_backend(diesel::pg::Pg))]
pub struct Pass {
    /// Name, such as `scrub` or `reconcile s3`.
    pub name: String,
    /// When the last completed pass ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// The findings of the last finished pass.
    pub report: serde_json::Value,
}

/// Records the report of a completed pass and its duration.
pub async fn record(
    conn: &mut AsyncPgConnection,
    name: &str,
    took: Duration,
    report: &serde_json::Value,
) -> Result<()> {
    diesel::sql_query(
        "INSERT INTO passes (name, started_at, finished_at, report) \
         VALUES ($1, now() - make_interval(secs => $2), now(), $3) \
         ON CONFLICT (name) DO UPDATE SET started_at = EXCLUDED.started_at, finished_at = EXCLUDED.finished_at, \
             report = EXCLUDED.report",
    )
    .bind::<Text, _>(name)
    .bind::<Double, _>(took.as_secs_f64())
    .bind::<Jsonb, _>(report)
    .execute(conn)
    .await?;
    Ok(())
}

/// The last report of a kind of pass.
pub async fn find(conn: &mut AsyncPgConnection, name: &str) -> Result<Option<Pass>> {
    Ok(passes::table.find(name).select(Pass::as_select()).first(conn).await.optional()?)
}

/// Every kind of pass with a report, by name.
pub async fn all(conn: &mut AsyncPgConnection) -> Result<Vec<Pass>> {
    Ok(passes::table.order(passes::name).select(Pass::as_select()).load(conn).await?)
}
