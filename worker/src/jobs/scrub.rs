//! Re-reads verified copies on each tick of `scrub.schedule`; in one worker.

use std::sync::Arc;

use nightferry_core::context::Context;
use nightferry_core::tiering::schedule::Ticks;
use nightferry_core::tiering::scrub::{self, Event, Options, Summary};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::is_due;

/// One pass if it is due, until `stop`. Unread copies wait for the next tick.
pub(crate) async fn scrub(context: Context, ticks: Arc<Mutex<Ticks>>, stop: CancellationToken) {
    let settings = &context.config.scrub;
    let Some(pattern) = &settings.schedule else { return };
    if !is_due(&context, &ticks, scrub::SCHEDULE, pattern).await {
        return;
    }
    let options = Options {
        stores: context.stores.all().cloned().collect(),
        rate: Some(settings.rate_bytes()),
        bytes: None,
        time: Some(settings.time_limit),
        min_age: settings.min_age,
    };
    match scrub::pass(&context, &options, tell, &stop).await {
        Ok(Some(summary)) => sum_up(&summary),
        Ok(None) => tracing::info!("another process is already scrubbing"),
        Err(error) => {
            tracing::error!(target: "nightferry::sync", %error, "scrub was interrupted; the next tick \
                continues");
        }
    }
}

fn tell(event: Event<'_>) {
    let Event::Found(finding) = event else { return };
    tracing::warn!(
        target: "nightferry::sync",
        store = finding.store,
        kind = <&str>::from(finding.kind),
        key = finding.key,
        bytes = finding.bytes,
        detail = finding.detail,
        copies_left = finding.copies_left,
        "a verified copy is bad"
    );
}

fn sum_up(summary: &Summary) {
    tracing::info!(
        target: "nightferry::sync",
        ended = ?summary.ended,
        bytes = summary.bytes,
        right = summary.right,
        findings = summary.found(),
        unread = summary.unread,
        returned = summary.returned,
        "scrubbed"
    );
}
