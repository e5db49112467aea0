//! The queue of a run: what is in flight, the sizes of its copies, and its release when the run stops.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use super::transitions::{LEAVE_RUN, SET_SIZE};
use crate::enums::ReplicaState;
use crate::error::Result;
use crate::ids::{ObjectId, RunId};
use crate::schema::replicas;
use crate::statement::Values;

/// Removes up to `limit` queued copies from a run that is stopping. They stay queued for the next run. Returns whether
/// there may be more.
pub async fn release_queued(conn: &mut AsyncPgConnection, run: RunId, limit: i64) -> Result<bool> {
    let mut values = Values::default();
    let run = values.id(run);
    // In the order of claims, so that their index is used: the run may also have millions of finished copies. The limit
    // is part of the text, so that the planner expects a small batch.
    let sql = format!(
        "WITH next AS MATERIALIZED ( \
             SELECT object_id, store FROM replicas WHERE run_id = {run} AND state = 'queued' \
             ORDER BY priority DESC, not_before, object_id LIMIT {limit} FOR UPDATE SKIP LOCKED \
         ) {}",
        LEAVE_RUN.update("", "FROM next", "r.object_id = next.object_id AND r.store = next.store")
    );
    let released = values.query(&sql).execute(conn).await?;
    Ok(i64::try_from(released).unwrap_or(i64::MAX) >= limit)
}

/// Whether copies of a run are in flight.
pub async fn any_in_flight(conn: &mut AsyncPgConnection, run: RunId) -> Result<bool> {
    let copying = replicas::table
        .filter(replicas::run_id.eq(run))
        .filter(replicas::state.eq(ReplicaState::Copying))
        .select(replicas::object_id);
    Ok(diesel::select(diesel::dsl::exists(copying)).get_result(conn).await?)
}

/// Records the sizes of the queued copies of these objects in a run, so that they can be claimed by size.
pub async fn record_sizes(conn: &mut AsyncPgConnection, run: RunId, objects: &[ObjectId]) -> Result<usize> {
    let mut values = Values::default();
    let (run, objects) = (values.id(run), values.ids(objects));
    let which = format!(
        "o.id = r.object_id AND r.object_id = ANY({objects}) AND r.run_id = {run} AND r.object_size IS NULL"
    );
    Ok(values.query(&SET_SIZE.update("", "FROM objects o", &which)).execute(conn).await?)
}
