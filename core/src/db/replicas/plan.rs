//! What a run shall carry: planned in sets, counted, and given back when the run ends early.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::db::enums::ReplicaState;
use crate::db::runs::RunScope;
use crate::db::schema::replicas;
use crate::error::Result;
use crate::ids::RunId;

/// What a plan added to a run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, QueryableByName)]
pub struct Planned {
    /// Copies to make.
    #[diesel(sql_type = BigInt)]
    pub files: i64,
    /// Bytes to move.
    #[diesel(sql_type = BigInt)]
    pub bytes: i64,
}

/// The versions of live files within the scope; `$3` user, `$4` folder, `$5` files are bound by the callers.
/// Only the conditions that are asked for appear, so that each scope gets a plan of its own.
fn scope_sql(scope: &RunScope) -> String {
    let mut sql = "SELECT v.object_id FROM file_versions v JOIN files f ON f.id = v.file_id \
                   WHERE f.deleted_at IS NULL"
        .to_owned();
    // Every parameter is mentioned, so that the number bound is the same for each scope.
    sql += if scope.user_id.is_some() { " AND f.owner_id = $3" } else { " AND $3::uuid IS NULL" };
    sql += if scope.folder_id.is_some() { " AND f.folder_id = $4" } else { " AND $4::uuid IS NULL" };
    sql += if scope.file_ids.is_some() { " AND f.id = ANY($5)" } else { " AND $5::uuid[] IS NULL" };
    sql
}

/// Up to when an object must have been acknowledged to be in a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Before the run was asked for: the classic nightly rule.
    RunRequested,
    /// By now: for what joins a run that is already going.
    Now,
}

/// Queues for `store` every acknowledged object in the scope that is not there yet, and takes over what earlier runs left queued. Idempotent.
///
/// Part of a transaction: lifts the statement timeout for it, because a plan may cover millions of rows.
pub async fn plan_until(
    conn: &mut AsyncPgConnection,
    run: RunId,
    store: &str,
    scope: &RunScope,
    until: Until,
) -> Result<Planned> {
    diesel::sql_query("SET LOCAL statement_timeout = '15min'").execute(conn).await?;
    let scoped = scope_sql(scope);
    let until = match until {
        Until::RunRequested => "o.stored_at <= (SELECT created_at FROM runs WHERE id = $1)",
        Until::Now => "true",
    };
    let insert = format!(
        "INSERT INTO replicas (object_id, store, state, run_id, rule) \
         SELECT o.id, $2, 'queued', $1, 'default' FROM objects o \
         WHERE o.state = 'stored' AND {until} \
           AND o.id IN ({scoped}) \
           AND EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = o.id AND s.state = 'present' AND s.store <> $2) \
           AND NOT EXISTS (SELECT 1 FROM replicas d WHERE d.object_id = o.id AND d.store = $2) \
         ON CONFLICT DO NOTHING"
    );
    // Given up ones come back when asked for: all of them, or the files that were named.
    let again = if scope.retry_failed || scope.file_ids.is_some() {
        "r.state IN ('failed', 'lost')"
    } else {
        "r.state = 'lost'"
    };
    let adopt = format!(
        "UPDATE replicas r SET state = 'queued', run_id = $1, not_before = now(), \
                attempts = CASE WHEN r.state = 'queued' THEN r.attempts ELSE 0 END, \
                abandoned = CASE WHEN r.state = 'queued' THEN r.abandoned ELSE 0 END \
         FROM objects o WHERE o.id = r.object_id AND o.state = 'stored' AND r.store = $2 \
           AND ((r.state = 'queued' AND r.run_id IS DISTINCT FROM $1) OR {again}) \
           AND EXISTS (SELECT 1 FROM replicas s WHERE s.object_id = o.id AND s.state = 'present' AND s.store <> $2) \
           AND r.object_id IN ({scoped})"
    );
    for sql in [insert, adopt] {
        diesel::sql_query(sql)
            .bind::<SqlUuid, _>(run)
            .bind::<Text, _>(store)
            .bind::<Nullable<SqlUuid>, _>(scope.user_id)
            .bind::<Nullable<SqlUuid>, _>(scope.folder_id)
            .bind::<Nullable<Array<SqlUuid>>, _>(scope.file_ids.as_ref())
            .execute(conn)
            .await?;
    }
    queued_in(conn, run).await
}

/// What is queued for a run at this moment.
pub async fn queued_in(conn: &mut AsyncPgConnection, run: RunId) -> Result<Planned> {
    Ok(diesel::sql_query(
        "SELECT count(*) AS files, coalesce(sum(o.size), 0)::bigint AS bytes \
         FROM replicas r JOIN objects o ON o.id = r.object_id WHERE r.run_id = $1 AND r.state = 'queued'",
    )
    .bind::<SqlUuid, _>(run)
    .get_result(conn)
    .await?)
}

/// Takes what is only queued out of a run that stops. It stays queued, for the next run.
pub async fn unassign(conn: &mut AsyncPgConnection, run: RunId) -> Result<usize> {
    Ok(diesel::update(
        replicas::table.filter(replicas::run_id.eq(run)).filter(replicas::state.eq(ReplicaState::Queued)),
    )
    .set(replicas::run_id.eq(None::<RunId>))
    .execute(conn)
    .await?)
}

/// When the next queued copy of a run is due, for a run that waits.
pub async fn next_due(conn: &mut AsyncPgConnection, run: RunId) -> Result<Option<DateTime<Utc>>> {
    Ok(replicas::table
        .filter(replicas::run_id.eq(run))
        .filter(replicas::state.eq(ReplicaState::Queued))
        .select(diesel::dsl::min(replicas::not_before))
        .first(conn)
        .await?)
}
