//! Reconcile: one store's listing against the map, in key order and streaming. Whatever differs is looked at again in the
//! database and the store before it is believed: copies, uploads and evictions go on meanwhile. Reports, and changes
//! something only when told to; what plans are found by is mended in any case.

mod judge;
mod merge;
mod report;
mod uploads;

use std::time::Duration;

use diesel_async::AsyncConnection;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::db::{self, replicas};
use crate::error::Result;
use crate::ids::WorkerId;
use crate::store::{Store, StoreRole};

use super::{pass, repair};

pub use report::{Event, Finding, Kind, Outcome, Summary, Tally};

/// Name of the schedule row.
pub const SCHEDULE: &str = "reconcile";

/// How to reconcile.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Delete orphans, abort stale uploads, and mark what is missing or of another size as lost.
    pub apply: bool,
    /// Younger objects are never called orphans.
    pub safety_age: Duration,
}

/// Reconciles one store. Answers none, and does nothing, while another process does. A pass that `stop` broke off answers
/// what it has seen until then.
///
/// # Errors
/// Whatever the database or the store meets.
pub async fn pass(
    context: &Context,
    store: &Store,
    options: Options,
    tell: impl FnMut(Event<'_>) + Send,
    stop: &CancellationToken,
) -> Result<Option<Summary>> {
    let name = format!("{SCHEDULE} {}", store.name());
    let reconciler = Reconciler {
        context,
        store,
        options,
        tell,
        stop,
        worker: WorkerId::new(),
        summary: Summary::new(store.name().as_str(), options.apply),
    };
    let summary = pass::run(context, &name, Box::pin(reconciler.run())).await?;
    if summary.is_some() {
        mend_plans(context).await?;
    }
    if summary.as_ref().is_some_and(Summary::lost_something) {
        repair::pass(context).await?;
    }
    Ok(summary)
}

/// Rows of the cloud that somebody has taken away by hand are planned for again.
async fn mend_plans(context: &Context) -> Result<()> {
    let locals = context.stores.names_with(StoreRole::Local);
    let clouds = context.stores.names_with(StoreRole::Cloud);
    let mut conn = context.db.conn().await?;
    let mended = conn
        .transaction(async move |conn| {
            db::may_take_long(conn).await?;
            replicas::mend_spare(conn, &locals, &clouds).await
        })
        .await?;
    if mended > 0 {
        tracing::warn!(target: "nightferry::sync", mended, "local copies were held to have crossed, but no store of the cloud has a row of them: the next run plans them anew");
    }
    Ok(())
}

/// One pass.
struct Reconciler<'a, T> {
    context: &'a Context,
    store: &'a Store,
    options: Options,
    tell: T,
    stop: &'a CancellationToken,
    /// Whose leases guard what is deleted.
    worker: WorkerId,
    summary: Summary,
}

impl<T: FnMut(Event<'_>) + Send> Reconciler<'_, T> {
    async fn run(mut self) -> Result<Summary> {
        self.summary.complete = self.merge().await? && self.stale_uploads().await?;
        Ok(self.summary)
    }

    fn found(&mut self, finding: &Finding) {
        self.summary.count(finding);
        metrics::counter!(
            "nightferry_reconcile_findings_total",
            "store" => finding.store.clone(),
            "kind" => finding.kind.as_str()
        )
        .increment(1);
        (self.tell)(Event::Found(finding));
    }
}
