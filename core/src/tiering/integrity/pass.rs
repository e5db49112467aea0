//! Passes over stored objects, by one process at a time, with stored reports.

use std::time::Instant;

use serde::Serialize;

use crate::context::Context;
use crate::db::passes;
use crate::error::{Error, Result};
use crate::tiering::db_outage::retry_on_db_outage;
use crate::tiering::lease::with_lease;

/// The findings of a pass, in the stored form.
pub trait Report: Serialize {
    /// Whether the pass completed.
    fn is_complete(&self) -> bool;
}

/// Makes a pass under a lease of this name and stores its report if it completes. Returns `None` if another process is
/// making such a pass.
///
/// # Errors
/// Any error of the pass, and any database error.
pub async fn run<R: Report>(
    context: &Context,
    name: &str,
    work: impl Future<Output = Result<R>>,
) -> Result<Option<R>> {
    let started = Instant::now();
    let reported = Box::pin(async {
        let report = work.await?;
        if report.is_complete() {
            let json = serde_json::to_value(&report)
                .map_err(|error| Error::Internal(format!("cannot encode a report: {error}")))?;
            retry_on_db_outage(async || {
                passes::record(&mut *context.db.conn().await?, name, started.elapsed(), &json).await
            })
            .await?;
        }
        Ok(report)
    });
    with_lease(context, name, reported).await
}
