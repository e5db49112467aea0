//! The `workers` table: running workers and their activity.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::schema::workers;
use crate::clock::MAX_DIFFERENCE;
use crate::error::Result;
use crate::ids::WorkerId;

/// A worker process.
#[derive(Debug, Clone, Queryable, Selectable)]
#[diesel(table_name = workers, check_for_backend(diesel::pg::Pg))]
pub struct Worker {
    /// Id, new at each start.
    pub id: WorkerId,
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: i32,
    /// The version of the program.
    pub version: String,
    /// `idle`, `working` or `draining`.
    pub state: String,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// Last heartbeat.
    pub heartbeat_at: DateTime<Utc>,
    /// The stores it is waiting for: a list of names.
    pub stores_down: serde_json::Value,
    /// How far the clock of its machine is ahead of that of the database, in milliseconds; negative: behind.
    pub clock_ahead_ms: i64,
}

impl Worker {
    /// How far its clock is ahead, if that is so much that the worker leads nothing.
    pub fn wrong_clock(&self) -> Option<TimeDelta> {
        Some(TimeDelta::milliseconds(self.clock_ahead_ms)).filter(|ahead| ahead.abs() > MAX_DIFFERENCE)
    }

    /// The names of the stores it is waiting for.
    pub fn waits_for(&self) -> Vec<&str> {
        self.stores_down.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect()
    }
}

/// The identity of a worker.
#[derive(Debug, Clone, Insertable)]
#[diesel(table_name = workers)]
pub struct Identity {
    /// New at each start.
    pub id: WorkerId,
    /// Host name.
    pub host: String,
    /// Process id.
    pub pid: i32,
    /// The version of the program.
    pub version: &'static str,
}

/// Records a heartbeat; creates the row if it does not exist. `state` is `idle`, `working` or `draining`; `stores_down`
/// are the stores that the worker is waiting for, and `ahead` is how far its clock is ahead.
pub async fn heartbeat(
    conn: &mut AsyncPgConnection,
    worker: &Identity,
    state: &str,
    stores_down: Vec<String>,
    ahead: TimeDelta,
) -> Result<()> {
    let reported = (
        workers::state.eq(state),
        workers::stores_down.eq(serde_json::Value::from(stores_down)),
        workers::clock_ahead_ms.eq(ahead.num_milliseconds()),
    );
    diesel::insert_into(workers::table)
        .values((worker, reported.clone()))
        .on_conflict(workers::id)
        .do_update()
        .set((reported, workers::heartbeat_at.eq(diesel::dsl::now)))
        .execute(conn)
        .await?;
    Ok(())
}

/// Removes a worker that is stopping.
pub async fn delete(conn: &mut AsyncPgConnection, id: WorkerId) -> Result<()> {
    diesel::delete(workers::table.find(id)).execute(conn).await?;
    Ok(())
}

/// Removes workers without a heartbeat since `before`.
pub async fn purge(conn: &mut AsyncPgConnection, before: DateTime<Utc>) -> Result<usize> {
    Ok(diesel::delete(workers::table.filter(workers::heartbeat_at.lt(before))).execute(conn).await?)
}

/// All workers, most recent heartbeat first.
pub async fn all(conn: &mut AsyncPgConnection) -> Result<Vec<Worker>> {
    Ok(workers::table.order(workers::heartbeat_at.desc()).select(Worker::as_select()).load(conn).await?)
}

/// The most recent heartbeat of any worker.
pub async fn last_heartbeat(conn: &mut AsyncPgConnection) -> Result<Option<DateTime<Utc>>> {
    Ok(workers::table.select(diesel::dsl::max(workers::heartbeat_at)).first(conn).await?)
}
