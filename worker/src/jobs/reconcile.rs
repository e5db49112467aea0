//! Compares every store with the database on each tick of `reconcile.schedule`; in one worker.

use std::sync::Arc;

use nightferry_core::context::Context;
use nightferry_core::store::Store;
use nightferry_core::tiering::reconcile::{self, Event, Options, Outcome, Summary};
use nightferry_core::tiering::schedule::Ticks;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::is_due;

/// One pass over every store if it is due, until `stop`. A store that fails waits for the next tick.
pub(crate) async fn reconcile(context: Context, ticks: Arc<Mutex<Ticks>>, stop: CancellationToken) {
    let Some(pattern) = &context.config.reconcile.schedule else { return };
    if !is_due(&context, &ticks, reconcile::SCHEDULE, pattern).await {
        return;
    }
    for store in context.stores.all() {
        if !stop.is_cancelled() {
            one(&context, store, &stop).await;
        }
    }
}

async fn one(context: &Context, store: &Store, stop: &CancellationToken) {
    let settings = &context.config.reconcile;
    let options = Options { apply: settings.apply, safety_age: settings.safety_age };
    match reconcile::pass(context, store, options, tell, stop).await {
        Ok(Some(summary)) => sum_up(&summary),
        Ok(None) => tracing::info!(store = %store.name(), "another process is already reconciling this \
            store"),
        Err(error) => {
            tracing::error!(target: "nightferry::sync", store = %store.name(), %error, "reconcile was \
                interrupted; the next tick retries");
        }
    }
}

fn tell(event: Event<'_>) {
    let Event::Found(finding) = event else { return };
    let outcome = match &finding.outcome {
        Outcome::Reported => "reported",
        Outcome::Applied => "applied",
        Outcome::Kept(why) => why,
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

fn sum_up(summary: &Summary) {
    tracing::info!(
        target: "nightferry::sync",
        store = summary.store,
        complete = summary.complete,
        objects = summary.objects,
        bytes = summary.bytes,
        foreign = summary.foreign,
        findings = summary.found(),
        "reconciled"
    );
}
