//! The `workers` table: who is up, and what it is doing.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::workers;
use crate::error::Result;
use crate::ids::WorkerId;

/// A worker process.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = workers, check_for_backend(diesel::pg::Pg))]
pub struct Worker {
    /// Id, new at each start.
    pub id: WorkerId,
    /// Host it runs on.
    pub host: String,
    /// Process id there.
    pub pid: i32,
    /// Version of the program.
    pub version: String,
    /// `idle`, `working` or `draining`.
    pub state: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Last sign of life.
    pub heartbeat_at: DateTime<Utc>,
}

/// Says that the worker lives and what it does; makes its row when it is not there.
pub async fn heartbeat(
    conn: &mut AsyncPgConnection,
    id: WorkerId,
    host: &str,
    pid: i32,
    version: &str,
    state: &str,
) -> Result<()> {
    diesel::insert_into(workers::table)
        .values((
            workers::id.eq(id),
            workers::host.eq(host),
            workers::pid.eq(pid),
            workers::version.eq(version),
            workers::state.eq(state),
        ))
        .on_conflict(workers::id)
        .do_update()
        .set((workers::state.eq(state), workers::heartbeat_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Takes a worker that stops off the list.
pub async fn delete(conn: &mut AsyncPgConnection, id: WorkerId) -> Result<()> {
    diesel::delete(workers::table.find(id)).execute(conn).await?;
    Ok(())
}

/// Takes workers off the list that have been silent since `before`.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::delete(workers::table.filter(workers::heartbeat_at.lt(before))).execute(conn).await?)
}

/// All workers on the list, most recent sign of life first.
pub async fn all(conn: &mut AsyncPgConnection) -> Result<Vec<Worker>> {
    Ok(workers::table.order(workers::heartbeat_at.desc()).select(Worker::as_select()).load(conn).await?)
}

/// The most recent sign of life of any worker.
pub async fn last_heartbeat(conn: &mut AsyncPgConnection) -> Result<Option<DateTime<Utc>>> {
    Ok(workers::table.select(diesel::dsl::max(workers::heartbeat_at)).first(conn).await?)
}
