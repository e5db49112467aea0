//! A run does not wait forever for a store that accepts nothing: its copies are left for the next run.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::context::Context;
use crate::db::{replicas, runs};
use crate::error::Result;
use crate::ids::RunId;

/// How long a run waits for a store that is full or redirects, and accepted nothing meanwhile. Somebody has to change
/// something first; a store that limits the rate, is down, or has another time than this machine is waited for.
const MAX_WAIT: Duration = Duration::from_secs(120);

/// Stops a run with the reason if its copies have waited too long for such a store. Called when no copy is due. Returns
/// whether it was stopped.
///
/// # Errors
/// Any database error.
pub async fn stop_if_blocked(context: &Context, id: RunId) -> Result<bool> {
    let blocked = context.stores.health().blocked(context.clock.now(), MAX_WAIT);
    let Some((store, reason)) = blocked.first() else { return Ok(false) };
    let names: Vec<String> = blocked.iter().map(|(store, _)| store.clone()).collect();
    let is_waiting = {
        let mut conn = context.db.conn().await?;
        let started = runs::find(&mut conn, id).await?.and_then(|run| run.started_at);
        // Each run tries for a while, also if an earlier one has waited.
        let now = context.clock.now();
        let has_tried = |at: DateTime<Utc>| (now - at).to_std().is_ok_and(|age| age >= MAX_WAIT);
        started.is_some_and(has_tried) && replicas::is_queued_for(&mut conn, id, &names).await?
    };
    if is_waiting {
        let reason = format!("the store {store} has accepted nothing for {} s: {reason}", MAX_WAIT.as_secs());
        super::stop(context, id, &reason).await?;
    }
    Ok(is_waiting)
}
