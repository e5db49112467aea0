//! Repair: lost replicas are queued again, to be copied from any other verified copy. Objects without one are reported
//! and kept: nothing is deleted.

use chrono::{DateTime, Utc};
use diesel_async::{AsyncConnection, AsyncPgConnection};

use crate::tiering::db_outage::retry_on_db_outage;

use crate::context::Context;
use crate::db::enums::RunStatus;
use crate::db::replicas::{self, Repairs};
use crate::db::{listen, runs};
use crate::error::Result;
use crate::ids::ObjectId;
use crate::store::StoreRole;

/// Queues lost replicas that can be repaired: in the active run if it covers all files, otherwise for the next one;
/// local copies are made immediately, outside of any run.
///
/// # Errors
/// Any database error; the next pass continues.
pub async fn pass(context: &Context) -> Result<Repairs> {
    let locals = context.stores.names_with(StoreRole::Local);
    let mut conn = context.db.conn().await?;
    if !replicas::can_repair(&mut conn).await? {
        return Ok(Repairs::default());
    }
    let (locals, mut all) = (locals.as_slice(), Repairs::default());
    loop {
        let queued = conn.transaction(async move |conn| queue_some(conn, locals).await).await?;
        if queued.copies == 0 {
            return Ok(all);
        }
        all.add(queued);
    }
}

/// Queues some lost replicas. Part of a transaction.
async fn queue_some(conn: &mut AsyncPgConnection, locals: &[&str]) -> Result<Repairs> {
    let going_on = match runs::lock_active(conn).await? {
        Some(run) if run.status == RunStatus::Running && !run.is_stopping() => {
            run.scope()?.is_everything().then_some(run.id)
        }
        _ => None,
    };
    let queued = replicas::queue_repairs(conn, locals, going_on, false).await?;
    if let Some(run) = going_on.filter(|_| queued.joined > 0) {
        runs::add_totals(conn, run, queued.joined, queued.joined_bytes).await?;
    }
    if queued.copies > 0 {
        listen::notify(conn, listen::RUNS, "repair").await?;
    }
    Ok(queued)
}

/// Marks a copy, present or suspect, as lost for this reason; with `seen`, only if it has not been verified again since
/// then. Reports an object without any verified copy left. Returns the number of those copies, or `None` if nothing was
/// changed.
pub(in crate::tiering) async fn mark_lost(
    context: &Context,
    object: ObjectId,
    key: &str,
    store: &str,
    reason: &str,
    seen: Option<DateTime<Utc>>,
) -> Result<Option<i64>> {
    let clouds = context.stores.names_with(StoreRole::Cloud);
    let error = format!("the copy in store {store} is lost: {reason}");
    let left = retry_on_db_outage(async || {
        let mut conn = context.db.conn().await?;
        match replicas::mark_lost(&mut conn, object, store, &clouds, &error, seen).await? {
            // An earlier pass only reported it.
            None => replicas::condemn(&mut conn, object, store, &error, seen).await,
            left => Ok(left),
        }
    })
    .await?;
    if left == Some(0) {
        report_unrecoverable(object, key);
    }
    Ok(left)
}

/// Marks a copy as suspect for this reason, if it has not been verified again since `seen`: it counts as no copy, but is
/// not repaired yet. Reports an object without any verified copy left. Returns the number of those copies, or `None` if
/// nothing was changed.
pub(in crate::tiering) async fn mark_suspect(
    context: &Context,
    object: ObjectId,
    key: &str,
    store: &str,
    reason: &str,
    seen: Option<DateTime<Utc>>,
) -> Result<Option<i64>> {
    let clouds = context.stores.names_with(StoreRole::Cloud);
    let error = format!("the copy in store {store} is suspect: {reason}");
    let left = retry_on_db_outage(async || {
        let mut conn = context.db.conn().await?;
        replicas::mark_suspect(&mut conn, object, store, &clouds, &error, seen).await
    })
    .await?;
    if left == Some(0) {
        report_unrecoverable(object, key);
    }
    Ok(left)
}

/// Alerts the operator that an object has lost its last verified copy.
pub(in crate::tiering) fn report_unrecoverable(object: ObjectId, key: &str) {
    metrics::counter!("nightferry_objects_lost_total").increment(1);
    tracing::error!(
        target: "nightferry::sync",
        %object,
        key,
        "no verified copy of this object is left; nothing is deleted: put its content back into a store \
            and scrub, or restore a backup"
    );
}
