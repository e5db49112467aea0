//! When a snapshot is written, who writes it, and what is known of the last one. A snapshot that fails never fails a run:
//! it is told in the log, in the metrics and in `sync status`, and tried again.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::error::CatalogError;
use super::format::Counts;
use super::snapshot::{self, Snapshot};
use crate::context::Context;
use crate::db::catalog;
use crate::db::passes::{self, Pass};
use crate::error::Result;
use crate::tiering::pass;
use crate::tiering::reconcile::Tally;

/// Name of the pass that writes snapshots.
pub const PASS: &str = "catalog";

/// One that failed is tried again after this long.
const PAUSE: TimeDelta = TimeDelta::minutes(5);

/// What is known of snapshots: the last that was written, and whether the last try failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The last one that was written.
    pub snapshot: Option<Snapshot>,
    /// Why the last try failed, if it did.
    pub failed: Option<String>,
    /// Since when every try has failed.
    pub failing_since: Option<DateTime<Utc>>,
    /// The same in the form of every pass.
    #[serde(default)]
    pub findings: BTreeMap<String, Tally>,
}

impl Report {
    /// The report of a pass; none when it is another kind of pass, or was never finished. One of another version of this
    /// program may not be readable: then a snapshot is due.
    pub fn of_pass(pass: &Pass) -> Option<Self> {
        if pass.name != PASS {
            return None;
        }
        pass.finished_at?;
        serde_json::from_value(pass.report.clone()).ok()
    }
}

impl pass::Report for Report {
    /// A try that failed is worth remembering.
    fn is_complete(&self) -> bool {
        true
    }
}

/// The last report and when it was made; none when no snapshot was ever tried.
///
/// # Errors
/// Whatever the database meets.
pub async fn latest_report(context: &Context) -> Result<Option<(Report, DateTime<Utc>)>> {
    let mut conn = context.db.conn().await?;
    let Some(pass) = passes::find(&mut conn, PASS).await? else { return Ok(None) };
    Ok(Report::of_pass(&pass).zip(pass.finished_at))
}

/// Writes a snapshot now. Of all processes one does at a time.
///
/// # Errors
/// [`CatalogError::Busy`] while another process does; [`CatalogError::Interrupted`]; whatever stores and database meet.
pub async fn export(
    context: &Context,
    tell: impl FnMut(&Counts) + Send,
    stop: &CancellationToken,
) -> std::result::Result<Snapshot, CatalogError> {
    let before = latest_report(context).await?.map(|(report, _)| report).unwrap_or_default();
    let mut outcome = None;
    let work = async {
        // Boxed: it holds everything that is under way, and callers hold it.
        let written = Box::pin(snapshot::write(context, tell, stop)).await;
        let report = report(context, before, &written);
        outcome = Some(written);
        Ok(report)
    };
    if pass::run(context, PASS, work).await?.is_none() {
        return Err(CatalogError::Busy);
    }
    outcome.unwrap_or(Err(CatalogError::Busy))
}

/// What is to be remembered of a try.
fn report(
    context: &Context,
    before: Report,
    written: &std::result::Result<Snapshot, CatalogError>,
) -> Report {
    let (status, report) = match written {
        Ok(snapshot) => ("written", Report { snapshot: Some(snapshot.clone()), ..Report::default() }),
        // Whoever stopped it knows.
        Err(CatalogError::Interrupted) => ("interrupted", before),
        Err(error) => (
            "failed",
            Report {
                failed: Some(error.to_string()),
                failing_since: before.failing_since.or_else(|| Some(context.clock.now())),
                ..before
            },
        ),
    };
    metrics::counter!("nightferry_catalog_snapshots_total", "outcome" => status).increment(1);
    let failed = u64::from(report.failed.is_some());
    let findings = BTreeMap::from([("failed".to_owned(), Tally { found: failed, bytes: 0, applied: 0 })]);
    Report { findings, ..report }
}

/// Writes a snapshot if a run changed something since the last one. Answers none when nothing is to be done: because
/// nothing changed, because another process is at it, or because the last try failed a moment ago.
///
/// # Errors
/// As [`export`].
pub async fn after_runs(
    context: &Context,
    stop: &CancellationToken,
) -> std::result::Result<Option<Snapshot>, CatalogError> {
    if !context.config.catalog.after_runs || !is_due(context).await? {
        return Ok(None);
    }
    match export(context, |_| {}, stop).await {
        Ok(snapshot) => Ok(Some(snapshot)),
        Err(CatalogError::Busy | CatalogError::Interrupted) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn is_due(context: &Context) -> Result<bool> {
    let changed = {
        let mut conn = context.db.conn().await?;
        catalog::last_change(&mut conn).await?
    };
    let Some(changed) = changed else { return Ok(false) };
    Ok(match latest_report(context).await? {
        None => true,
        Some((report, at)) => {
            let taken = report.snapshot.map(|snapshot| snapshot.taken_at);
            let rested = report.failed.is_none() || context.clock.now() - at >= PAUSE;
            taken.is_none_or(|taken| taken < changed) && rested
        }
    })
}
