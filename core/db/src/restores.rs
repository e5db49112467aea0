//! The `restores` table: requested restores of archived copies. One row per copy, regardless of the number of requests.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Double, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::enums::RestoreState;
use super::replicas::UPDATE_PRESENT;
use super::schema::restores;
use super::statement::Values;
use crate::error::{PendingRestore, Result};
use crate::ids::{ObjectId, UserId};

/// A restore of one archived copy.
#[derive(Debug, Clone, PartialEq, Eq, Queryable, Selectable, QueryableByName)]
#[diesel(table_name = restores, check_for_backend(diesel::pg::Pg))]
pub struct Restore {
    /// Id.
    pub id: Uuid,
    /// Object.
    pub object_id: ObjectId,
    /// Store.
    pub store: String,
    /// State of the restore.
    pub state: RestoreState,
    /// When it was first requested.
    pub requested_at: DateTime<Utc>,
    /// When the store accepted the request.
    pub asked_at: Option<DateTime<Utc>>,
    /// When the copy became readable.
    pub ready_at: Option<DateTime<Utc>>,
    /// Until when it is readable.
    pub expires_at: Option<DateTime<Utc>>,
    /// When the store is polled next.
    pub next_look_at: DateTime<Utc>,
    /// Failed attempts.
    pub attempts: i32,
    /// The error of the last attempt.
    pub last_error: Option<String>,
}

/// Requests a restore of a copy that could not be read. A restore in progress is unchanged; one that had failed or was
/// ready (which is no longer possible) starts again. Returns the row.
pub async fn want(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    by: Option<UserId>,
) -> Result<Restore> {
    Ok(diesel::sql_query(
        "INSERT INTO restores AS r (id, object_id, store, requested_by) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (object_id, store) DO UPDATE SET \
             requested_at = CASE WHEN r.state IN ('ready', 'failed') THEN now() ELSE r.requested_at END, \
             requested_by = CASE WHEN r.state IN ('ready', 'failed') THEN EXCLUDED.requested_by ELSE r.requested_by END, \
             next_look_at = CASE WHEN r.state IN ('ready', 'failed') THEN now() ELSE r.next_look_at END, \
             attempts = CASE WHEN r.state IN ('ready', 'failed') THEN 0 ELSE r.attempts END, \
             last_error = CASE WHEN r.state IN ('ready', 'failed') THEN NULL ELSE r.last_error END, \
             state = CASE WHEN r.state IN ('ready', 'failed') THEN 'wanted' ELSE r.state END::restore_state \
         RETURNING id, object_id, store, state, requested_at, asked_at, ready_at, expires_at, next_look_at, attempts, \
             last_error",
    )
    .bind::<SqlUuid, _>(Uuid::now_v7())
    .bind::<SqlUuid, _>(object)
    .bind::<Text, _>(store)
    .bind::<Nullable<SqlUuid>, _>(by)
    .get_result(conn)
    .await?)
}

/// A restore to process, with the key of the object.
#[derive(Debug, Clone, QueryableByName)]
#[diesel(table_name = crate::schema::restores)]
pub struct Due {
    /// Id.
    pub id: Uuid,
    /// Object.
    pub object_id: ObjectId,
    /// Store.
    pub store: String,
    /// State of the restore.
    pub state: RestoreState,
    /// Failed attempts.
    pub attempts: i32,
    /// Key in every store.
    #[diesel(sql_type = Text)]
    pub key: String,
}

/// Takes the next due restores, for `busy`: until then no other worker takes them.
pub async fn take_due(conn: &mut AsyncPgConnection, limit: i64, busy: Duration) -> Result<Vec<Due>> {
    Ok(diesel::sql_query(
        "UPDATE restores r SET next_look_at = now() + make_interval(secs => $2) FROM objects o \
         WHERE r.id IN (SELECT id FROM restores WHERE state IN ('wanted', 'restoring') AND next_look_at <= now() \
                        ORDER BY next_look_at LIMIT $1 FOR UPDATE SKIP LOCKED) \
           AND o.id = r.object_id \
         RETURNING r.id, r.object_id, r.store, r.state, r.attempts, o.key",
    )
    .bind::<BigInt, _>(limit)
    .bind::<Double, _>(busy.as_secs_f64())
    .load(conn)
    .await?)
}

/// Records that the store is restoring the copy; it is polled again after `pause`.
pub async fn mark_restoring(conn: &mut AsyncPgConnection, id: Uuid, pause: Duration) -> Result<()> {
    diesel::sql_query(
        "UPDATE restores SET state = 'restoring', asked_at = CASE WHEN state = 'wanted' THEN now() ELSE asked_at END, \
                next_look_at = now() + make_interval(secs => $2), attempts = 0, last_error = NULL \
         WHERE id = $1 AND state IN ('wanted', 'restoring')",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Double, _>(pause.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(())
}

/// Records that the store has no restored copy and is not making one: it has to be requested again.
pub async fn mark_wanted(conn: &mut AsyncPgConnection, id: Uuid) -> Result<()> {
    diesel::sql_query(
        "UPDATE restores SET state = 'wanted', next_look_at = now() WHERE id = $1 AND state = 'restoring'",
    )
    .bind::<SqlUuid, _>(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Records that the copy is readable until `expires_at`.
pub async fn mark_ready(
    conn: &mut AsyncPgConnection,
    id: Uuid,
    expires_at: Option<DateTime<Utc>>,
) -> Result<()> {
    diesel::sql_query(
        "UPDATE restores SET state = 'ready', ready_at = now(), expires_at = $2, attempts = 0, last_error = NULL \
         WHERE id = $1 AND state IN ('wanted', 'restoring')",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Nullable<Timestamptz>, _>(expires_at)
    .execute(conn)
    .await?;
    Ok(())
}

/// Records a failed attempt: retried after `pause`, or failed permanently.
pub async fn mark_failed(
    conn: &mut AsyncPgConnection,
    id: Uuid,
    error: &str,
    give_up: bool,
    pause: Duration,
) -> Result<()> {
    diesel::sql_query(
        "UPDATE restores SET state = CASE WHEN $3 THEN 'failed' ELSE state END::restore_state, attempts = attempts + 1, \
                last_error = $2, next_look_at = now() + make_interval(secs => $4) \
         WHERE id = $1 AND state IN ('wanted', 'restoring')",
    )
    .bind::<SqlUuid, _>(id)
    .bind::<Text, _>(error)
    .bind::<diesel::sql_types::Bool, _>(give_up)
    .bind::<Double, _>(pause.as_secs_f64())
    .execute(conn)
    .await?;
    Ok(())
}

/// The restores of an object's copies.
pub async fn of_object(conn: &mut AsyncPgConnection, object: ObjectId) -> Result<Vec<Restore>> {
    Ok(restores::table
        .filter(restores::object_id.eq(object))
        .order(restores::store)
        .select(Restore::as_select())
        .load(conn)
        .await?)
}

/// Records the storage class of a copy, as reported by its store.
pub async fn record_class(
    conn: &mut AsyncPgConnection,
    object: ObjectId,
    store: &str,
    class: Option<&str>,
) -> Result<()> {
    let mut values = Values::default();
    let (object, store, class) = (values.id(object), values.text(store), values.text_or_null(class));
    let which =
        format!("r.object_id = {object} AND r.store = {store} AND r.storage_class IS DISTINCT FROM {class}");
    let sql = UPDATE_PRESENT.update(&format!("storage_class = {class}"), "", &which);
    values.query(&sql).execute(conn).await?;
    Ok(())
}

impl From<Restore> for PendingRestore {
    fn from(restore: Restore) -> Self {
        let goes_on = matches!(restore.state, RestoreState::Wanted | RestoreState::Restoring);
        Self {
            id: restore.id,
            store: restore.store,
            state: restore.state.as_str(),
            requested_at: restore.requested_at,
            ready_at: restore.ready_at,
            expires_at: restore.expires_at,
            next_check_at: goes_on.then_some(restore.next_look_at),
        }
    }
}
