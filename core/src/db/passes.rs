//! The `passes` table: who reconciles, scrubs or writes a snapshot at this moment, under a lease, and what the last finished pass found.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Double, Jsonb, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::passes;
use crate::error::Result;
use crate::ids::LeaseToken;

/// A kind of pass and what is known of it.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = passes, check_for_backend(diesel::pg::Pg))]
pub struct Pass {
    /// Name, such as `scrub` or `reconcile s3`.
    pub name: String,
    /// When the one that goes on, or else the last one, began.
    pub started_at: DateTime<Utc>,
    /// When the last finished one ended.
    pub finished_at: Option<DateTime<Utc>>,
    /// What that one found.
    pub report: serde_json::Value,
}

/// Takes the right to make a pass. Answers whether it was free: nobody makes one, or whoever did stopped renewing.
pub async fn take(
    conn: &mut AsyncPgConnection,
    name: &str,
    token: LeaseToken,
    lease: Duration,
) -> Result<bool> {
    let changed = diesel::sql_query(
        "INSERT INTO passes AS p (name, lease_token, lease_until) \
         VALUES ($1, $2, now() + make_interval(secs => $3)) \
         ON CONFLICT (name) DO UPDATE SET lease_token = excluded.lease_token, lease_until = excluded.lease_until, \
             started_at = now() \
         WHERE p.lease_until IS NULL OR p.lease_until < now()",
    )
    .bind::<Text, _>(name)
    .bind::<SqlUuid, _>(token)
    .bind::<Double, _>(lease.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Goes on with a pass. Answers whether it is still ours; one that ran out is, as long as nobody took it.
pub async fn renew(
    conn: &mut AsyncPgConnection,
    name: &str,
    token: LeaseToken,
    lease: Duration,
) -> Result<bool> {
    let changed = diesel::sql_query(
        "UPDATE passes SET lease_until = now() + make_interval(secs => $3) WHERE name = $1 AND lease_token = $2",
    )
    .bind::<Text, _>(name)
    .bind::<SqlUuid, _>(token)
    .bind::<Double, _>(lease.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(changed == 1)
}

/// Lets go of a pass; `report` when it came to its end.
pub async fn let_go(
    conn: &mut AsyncPgConnection,
    name: &str,
    token: LeaseToken,
    report: Option<&serde_json::Value>,
) -> Result<()> {
    diesel::sql_query(
        "UPDATE passes SET lease_token = NULL, lease_until = NULL, report = coalesce($3, report), \
                finished_at = CASE WHEN $3 IS NULL THEN finished_at ELSE now() END \
         WHERE name = $1 AND lease_token = $2",
    )
    .bind::<Text, _>(name)
    .bind::<SqlUuid, _>(token)
    .bind::<Nullable<Jsonb>, _>(report)
    .execute(conn)
    .await?;
    Ok(())
}

/// What is known of a kind of pass.
pub async fn find(conn: &mut AsyncPgConnection, name: &str) -> Result<Option<Pass>> {
    Ok(passes::table.find(name).select(Pass::as_select()).first(conn).await.optional()?)
}

/// Every kind of pass that was ever made, by name.
pub async fn all(conn: &mut AsyncPgConnection) -> Result<Vec<Pass>> {
    Ok(passes::table.order(passes::name).select(Pass::as_select()).load(conn).await?)
}
