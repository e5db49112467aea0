//! Reconcile: compares the listing of one store with the replica rows, in key order and streaming. Every difference is
//! checked again in the database and the store: copies, uploads and evictions continue meanwhile. Unless fixes are
//! requested, changes nothing in the stores and queues no copies; but a copy that is missing or has a wrong size becomes
//! suspect and counts as no copy from then on, intact copies that the database does not know are adopted, and data used by
//! planning is corrected.

mod judge;
mod merge;
mod orphans;
mod report;
mod uploads;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel_async::AsyncConnection;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::db::{self, replicas};
use crate::error::Result;
use crate::ids::WorkerId;
use crate::object::{empty_catalogue, identity};
use crate::store::{Store, StoreRole};

use crate::tiering::{pass, repair};

pub use report::{Event, Finding, Kind, Outcome, Summary, Tally};

/// Name of the schedule row.
pub const SCHEDULE: &str = "reconcile";

/// Why nothing is deleted.
const NOT_PROVEN: &str = "the store may not be the one that the database knows";

/// Options of reconcile.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Delete orphans, abort stale uploads, and repair missing objects and those with a wrong size. Otherwise such
    /// copies only become suspect.
    pub apply: bool,
    /// Younger objects are unknown, and never treated as orphans.
    pub safety_age: Duration,
}

/// Reconciles one store. Returns `None`, and does nothing, while another process does. A pass interrupted by `stop`
/// returns what it has found so far. An object that cannot be checked is reported, and the pass continues.
///
/// # Errors
/// [`crate::error::Error::Conflict`] if fixes are requested and the store may not be the recorded one, or the database
/// contains no objects: everything would seem to be missing, or superfluous. Any error of the database, and any error of
/// the store that concerns more than one object.
pub async fn pass(
    context: &Context,
    store: &Store,
    options: Options,
    tell: impl FnMut(Event<'_>) + Send,
    stop: &CancellationToken,
) -> Result<Option<Summary>> {
    if options.apply {
        identity::require(context, store).await?;
        empty_catalogue::require(context).await?;
    }
    let newest = {
        let mut conn = context.db.conn().await?;
        replicas::newest_age(&mut conn).await?
    };
    let name = format!("{SCHEDULE} {}", store.name());
    let reconciler = Reconciler {
        context,
        store,
        options,
        tell,
        stop,
        worker: WorkerId::new(),
        newest: newest
            .and_then(|age| context.clock.now().checked_sub_signed(TimeDelta::from_std(age).ok()?))
            .unwrap_or(DateTime::UNIX_EPOCH),
        orphans: Vec::new(),
        summary: Summary::new(store.name().as_str(), options.apply),
    };
    let summary = pass::run(context, &name, Box::pin(reconciler.run())).await?;
    if summary.is_some() {
        correct_planning_data(context).await?;
    }
    if summary.as_ref().is_some_and(Summary::lost_something) {
        repair::pass(context).await?;
    }
    Ok(summary)
}

/// Cloud copies whose row was deleted by hand are planned again.
async fn correct_planning_data(context: &Context) -> Result<()> {
    let locals = context.stores.names_with(StoreRole::Local);
    let clouds = context.stores.names_with(StoreRole::Cloud);
    let mut conn = context.db.conn().await?;
    let mended = conn
        .transaction(async move |conn| {
            db::disable_statement_timeout(conn).await?;
            replicas::correct_evictable(conn, &locals, &clouds).await
        })
        .await?;
    if mended > 0 {
        tracing::warn!(target: "nightferry::sync", mended, "local copies were marked as synced, but no \
            cloud store has a row for them: the next run plans them again");
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
    /// The worker id for the leases of deletions.
    worker: WorkerId,
    /// When the newest known object was recorded. Later objects without a row are newer than the database.
    newest: DateTime<Utc>,
    /// Orphans that are to be deleted together.
    orphans: Vec<orphans::Orphan>,
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
            "kind" => <&str>::from(finding.kind)
        )
        .increment(1);
        (self.tell)(Event::Found(finding));
    }
}
