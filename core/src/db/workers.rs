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
    /// Stores that it waits for: a list of names.
    pub stores_down: serde_json::Value,
}

impl Worker {
    /// The names of the stores that it waits for.
    pub fn waits_for(&self) -> Vec<&str> {
        self.stores_down.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect()
    }
}

/// What a worker says of itself.
#[derive(Debug, Insertable)]
#[diesel(table_name = workers)]
pub struct SignOfLife<'a> {
    /// Id, new at each start.
    pub id: WorkerId,
    /// Host it runs on.
    pub host: &'a str,
    /// Process id there.
    pub pid: i32,
    /// Version of the program.
    pub version: &'a str,
    /// `idle`, `working` or `draining`.
    pub state: &'a str,
    /// Stores that it waits for: a list of names.
    pub stores_down: serde_json::Value,
}

/// Says that the worker lives and what it does; makes its row when it is not there.
pub async fn heartbeat(conn: &mut AsyncPgConnection, alive: &SignOfLife<'_>) -> Result<()> {
    diesel::insert_into(workers::table)
        .values(alive)
        .on_conflict(workers::id)
        .do_update()
        .set((
            workers::state.eq(alive.state),
            workers::stores_down.eq(&alive.stores_down),
            workers::heartbeat_at.eq(diesel::dsl::now),
        ))
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
