//! When snapshots are written, by which process, and the state of the last one. A failed snapshot never fails a run: it
//! is reported in the log, the metrics and `sync status`, and retried.

use std::collections::BTreeMap;
use std::time::Duration;

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

/// Delay before a failed snapshot is retried.
const PAUSE: TimeDelta = TimeDelta::minutes(5);
/// Snapshots of at least this duration are followed by a pause of [`PAUSE_FACTOR`] times as long: a snapshot reads everything in
/// one transaction, during which no dead row can be vacuumed, and runs may end every few minutes.
const LONG: Duration = Duration::from_secs(1);
const PAUSE_FACTOR: u32 = 20;

/// The state of snapshots: the last one written, and whether the last attempt failed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The last one written.
    pub snapshot: Option<Snapshot>,
    /// The error of the last attempt, if it failed.
    pub failed: Option<String>,
    /// Since when all attempts have failed.
    pub failing_since: Option<DateTime<Utc>>,
    /// The report in the generic form of passes.
    #[serde(default)]
    pub findings: BTreeMap<String, Tally>,
}

impl Report {
    /// The report of a pass; `None` for another kind of pass, or if it never finished. A report of another version of
    /// this program may be unreadable: then a snapshot is due.
    pub fn of_pass(pass: &Pass) -> Option<Self> {
        if pass.name != PASS {
            return None;
        }
        pass.finished_at?;
        serde_json::from_value(pass.report.clone()).ok()
    }
}

impl pass::Report for Report {
    /// Failed attempts are recorded too.
    fn is_complete(&self) -> bool {
        true
    }
}

/// The last report and its time; `None` if no snapshot was ever attempted.
pub async fn latest_report(context: &Context) -> Result<Option<(Report, DateTime<Utc>)>> {
    let Some(pass) = passes::find(&mut *context.db.conn().await?, PASS).await? else { return Ok(None) };
    Ok(Report::of_pass(&pass).zip(pass.finished_at))
}

/// Writes a snapshot now. Only one process at a time does.
///
/// # Errors
/// [`CatalogError::Busy`] while another process writes one; [`CatalogError::Interrupted`]; any error of the store or
/// the database.
pub async fn export(
    context: &Context,
    tell: impl FnMut(&Counts) + Send,
    stop: &CancellationToken,
) -> Result<Snapshot, CatalogError> {
    let before = latest_report(context).await?.map(|(report, _)| report).unwrap_or_default();
    let mut outcome = None;
    let work = async {
        // Boxed: the future is large, and callers store it.
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

fn report(context: &Context, before: Report, written: &Result<Snapshot, CatalogError>) -> Report {
    let (status, report) = match written {
        Ok(snapshot) => ("written", Report { snapshot: Some(snapshot.clone()), ..Report::default() }),
        // The caller that stopped it handles this.
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

/// Writes a snapshot if a run changed something since the last one. Returns `None` if there is nothing to do: because
/// nothing changed, another process is writing one, or the last attempt has just failed.
///
/// # Errors
/// Like [`export`].
pub async fn after_runs(
    context: &Context,
    stop: &CancellationToken,
) -> Result<Option<Snapshot>, CatalogError> {
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
    let changed = catalog::last_change(&mut *context.db.conn().await?).await?;
    let Some(changed) = changed else { return Ok(false) };
    Ok(match latest_report(context).await? {
        None => true,
        Some((report, at)) => {
            let taken = report.snapshot.as_ref().map(|snapshot| snapshot.taken_at);
            let pause = if report.failed.is_some() { PAUSE } else { pause_after(report.snapshot.as_ref()) };
            let has_paused = pause.is_zero() || context.clock.now() - at >= pause;
            taken.is_none_or(|taken| taken < changed) && has_paused
        }
    })
}

/// The pause after a snapshot.
fn pause_after(snapshot: Option<&Snapshot>) -> TimeDelta {
    let took = snapshot.map_or(Duration::ZERO, |snapshot| snapshot.took);
    if took < LONG {
        TimeDelta::zero()
    } else {
        TimeDelta::from_std(took.saturating_mul(PAUSE_FACTOR)).unwrap_or(TimeDelta::MAX)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn after(took: Duration) -> TimeDelta {
        let snapshot = serde_json::json!({
            "store": "s3", "key": "k", "taken_at": DateTime::UNIX_EPOCH, "bytes": 1, "rows": {}, "pruned": 0, "took": took,
        });
        pause_after(Some(&serde_json::from_value(snapshot).unwrap()))
    }

    #[test]
    fn long_snapshots_are_followed_by_a_pause() {
        assert_eq!(pause_after(None), TimeDelta::zero());
        assert_eq!(after(Duration::from_millis(900)), TimeDelta::zero());
        assert_eq!(after(Duration::from_secs(90)), TimeDelta::minutes(30));
    }
}
