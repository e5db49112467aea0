//! Reads verified copies again when `scrub.schedule` ticks; of all workers one does.

use std::sync::Arc;

use nightferry_core::context::Context;
use nightferry_core::tiering::schedule::Ticks;
use nightferry_core::tiering::scrub::{self, Event, Options, Summary};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::is_due;

/// One pass if one is due, broken off at `stop`. What was not read waits for the next tick.
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
        Ok(None) => tracing::info!("another process scrubs already"),
        Err(error) => {
            tracing::error!(target: "nightferry::sync", %error, "scrubbing broke off, the next tick goes on");
        }
    }
}

fn tell(event: Event<'_>) {
    let Event::Found(finding) = event else { return };
    tracing::warn!(
        target: "nightferry::sync",
        store = finding.store,
        kind = finding.kind.as_str(),
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
