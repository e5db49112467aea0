//! Queued copies that wait for a store.

use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::enums::ReplicaState;
use crate::error::Result;
use crate::ids::RunId;
use crate::schema::replicas;

/// Whether a copy of the run is queued for one of these stores.
pub async fn is_queued_for(conn: &mut AsyncPgConnection, run: RunId, stores: &[String]) -> Result<bool> {
    let queued = replicas::table
        .filter(replicas::run_id.eq(run))
        .filter(replicas::state.eq(ReplicaState::Queued))
        .filter(replicas::store.eq_any(stores));
    Ok(diesel::select(diesel::dsl::exists(queued)).get_result(conn).await?)
}
