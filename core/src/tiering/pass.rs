//! Passes over what is stored, one process at a time, whose reports are kept.

use std::time::Instant;

use serde::Serialize;

use super::lease::with_lease;
use super::patience::patiently;
use crate::context::Context;
use crate::db::passes;
use crate::error::{Error, Result};

/// What a pass found, in the form in which it is kept.
pub trait Report: Serialize {
    /// Whether the pass came to its end.
    fn is_complete(&self) -> bool;
}

/// Makes a pass under a lease of this name and keeps the report of a complete one. Returns none while another process makes
/// such a pass.
///
/// # Errors
/// Any error of the pass; any database error.
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
                .map_err(|error| Error::Internal(format!("a report could not be written: {error}")))?;
            patiently(async || {
                let mut conn = context.db.conn().await?;
                passes::record(&mut conn, name, started.elapsed(), &json).await
            })
            .await?;
        }
        Ok(report)
    });
    with_lease(context, name, reported).await
}
