//! The end of a run: cancelled, stopped, or finished. A cancelled run is marked in a short transaction, after which
//! nothing more of it is claimed. Its queued copies are released in batches by the workers, so that the cost of a
//! cancellation does not depend on the backlog.

use std::time::{Duration, Instant};

use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::context::Context;
use crate::db::audit::{self, Origin};
use crate::db::replicas;
use crate::db::runs::{self, Run};
use crate::error::{Error, Noun, Result};
use crate::ids::{RunId, UserId};

/// Queued copies released in one statement.
pub(super) const RELEASED: i64 = 2_000;
/// How long one call of [`settle`] releases copies: the worker has other things to do too.
const SETTLE_TIME: Duration = Duration::from_secs(2);

/// Requests the cancellation of an active run: nothing new is started, transfers in flight finish, and everything else
/// waits for the next run. Returns the new state of the run: it has ended if nothing is in flight and its queue is
/// short; otherwise a worker ends it.
///
/// # Errors
/// [`Error::NotFound`]; [`Error::Conflict`] if it has already ended.
pub async fn cancel(context: &Context, id: RunId, actor: Option<UserId>, origin: &Origin) -> Result<Run> {
    let mut conn = context.db.conn().await?;
    let run = conn
        .transaction(async move |conn| {
            let Some(run) = runs::request_cancel(conn, id).await? else {
                let run = runs::find(conn, id).await?.ok_or(Error::NotFound(Noun::Run))?;
                return Err(Error::Conflict(format!("The run has already ended: it {}.", run.status)));
            };
            crate::db::listen::notify(conn, crate::db::listen::RUNS, &id.to_string()).await?;
            audit::record(conn, origin, actor, "run.cancel", ("run", id), serde_json::json!({})).await?;
            Ok(run)
        })
        .await?;
    // One batch, so that a short run ends at once, also without a worker.
    replicas::release_queued(&mut conn, id, RELEASED).await?;
    Ok(end(&mut conn, id).await?.unwrap_or(run))
}

/// Stops a run that cannot continue, for example because the destination rejects the credentials. No attempts are lost;
/// queued copies wait for the next run.
pub async fn stop(context: &Context, id: RunId, reason: &str) -> Result<()> {
    runs::set_error(&mut *context.db.conn().await?, id, reason).await
}

/// Ends a run of which nothing is queued or in flight; the queued copies of a run that is stopping are released first,
/// for a few seconds. Returns the run if this call ended it.
///
/// # Errors
/// Any database error; the next call continues.
pub async fn settle(context: &Context, id: RunId) -> Result<Option<Run>> {
    let mut conn = context.db.conn().await?;
    let run = runs::find(&mut conn, id).await?;
    if run.is_some_and(|run| run.status.is_active() && run.is_stopping()) {
        release(&mut conn, id, SETTLE_TIME).await?;
    }
    end(&mut conn, id).await
}

/// Releases the queued copies of a run that is stopping, for at most this long. Each batch is a transaction of its own.
pub(super) async fn release(conn: &mut AsyncPgConnection, id: RunId, most: Duration) -> Result<()> {
    let began = Instant::now();
    while replicas::release_queued(conn, id, RELEASED).await? && began.elapsed() < most {}
    Ok(())
}

/// Ends a run of which nothing is queued or in flight.
pub(super) async fn end(conn: &mut AsyncPgConnection, id: RunId) -> Result<Option<Run>> {
    conn.transaction(async move |conn| runs::settle(conn, id).await).await
}
