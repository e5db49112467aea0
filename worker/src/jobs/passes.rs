//! Passes over the stores on the ticks of a schedule; each in one worker.

use std::sync::Arc;

use nightferry_core::context::Context;
use nightferry_core::store::Store;
use nightferry_core::tiering::schedule::Ticks;
use nightferry_core::tiering::{reconcile, scrub};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// One pass over every store if it is due, until `stop`. A store that fails waits for the next tick.
pub(crate) async fn reconcile(context: Context, ticks: Arc<Mutex<Ticks>>, stop: CancellationToken) {
    let Some(pattern) = &context.config.reconcile.schedule else { return };
    if !is_due(&context, &ticks, reconcile::SCHEDULE, pattern).await {
        return;
    }
    for store in context.stores.all() {
        if !stop.is_cancelled() {
            reconcile_one(&context, store, &stop).await;
        }
    }
}

async fn reconcile_one(context: &Context, store: &Store, stop: &CancellationToken) {
    let settings = &context.config.reconcile;
    let options = reconcile::Options { apply: settings.apply, safety_age: settings.safety_age };
    match reconcile::pass(context, store, options, tell_difference, stop).await {
        Ok(Some(summary)) => sum_up_reconcile(&summary),
        Ok(None) => tracing::info!(store = %store.name(), "another process is already reconciling this \
            store"),
        Err(error) => {
            tracing::error!(target: "nightferry::sync", store = %store.name(), %error, "reconcile was \
                interrupted; the next tick retries");
        }
    }
}

fn tell_difference(event: reconcile::Event<'_>) {
    let reconcile::Event::Found(finding) = event else { return };
    let outcome = match &finding.outcome {
        reconcile::Outcome::Reported => "reported",
        reconcile::Outcome::Applied => "applied",
        reconcile::Outcome::Kept(why) => why,
    };
    tracing::warn!(
        target: "nightferry::sync",
        store = finding.store,
        kind = <&str>::from(finding.kind),
        key = finding.key,
        bytes = finding.bytes,
        detail = finding.detail,
        outcome,
        "store and database differ"
    );
}

fn sum_up_reconcile(summary: &reconcile::Summary) {
    tracing::info!(
        target: "nightferry::sync",
        store = summary.store,
        complete = summary.complete,
        objects = summary.objects,
        bytes = summary.bytes,
        foreign = summary.foreign,
        findings = summary.found(),
        unchecked = summary.unchecked,
        last_error = summary.last_error,
        "reconciled"
    );
}

/// One pass if it is due, until `stop`. Unread copies wait for the next tick.
pub(crate) async fn scrub(context: Context, ticks: Arc<Mutex<Ticks>>, stop: CancellationToken) {
    let settings = &context.config.scrub;
    let Some(pattern) = &settings.schedule else { return };
    if !is_due(&context, &ticks, scrub::SCHEDULE, pattern).await {
        return;
    }
    let options = scrub::Options {
        stores: context.stores.all().cloned().collect(),
        rate: Some(settings.rate_bytes()),
        bytes: None,
        time: Some(settings.time_limit),
        min_age: settings.min_age,
    };
    match scrub::pass(&context, &options, tell_bad_copy, &stop).await {
        Ok(Some(summary)) => sum_up_scrub(&summary),
        Ok(None) => tracing::info!("another process is already scrubbing"),
        Err(error) => {
            tracing::error!(target: "nightferry::sync", %error, "scrub was interrupted; the next tick \
                continues");
        }
    }
}

fn tell_bad_copy(event: scrub::Event<'_>) {
    let scrub::Event::Found(finding) = event else { return };
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

fn sum_up_scrub(summary: &scrub::Summary) {
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

/// Takes the tick of a schedule that is due, if one is. Returns true in one of all workers.
async fn is_due(context: &Context, ticks: &Mutex<Ticks>, name: &str, pattern: &str) -> bool {
    ticks.lock().await.take_due(context, name, pattern).await.unwrap_or_else(|error| {
        tracing::warn!(schedule = name, %error, "a schedule could not be read, trying again");
        false
    })
}
