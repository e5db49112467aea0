//! Canaries to every store: whether it verifies the checksums sent with content, so that the checksum in its response is
//! evidence. Until they have shown that, and if they show the contrary, [`super::verify`] asks for more. Each process
//! has its own results, because it may reach a store through another proxy; before the first ones it reads what it
//! verifies.

use std::time::Duration;

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::retry;
use crate::store::{Canary, Outcome, Store};

/// Timeout of all canaries to one store.
const DEADLINE: Duration = Duration::from_secs(60);
/// First pause after canaries that did not show everything, and the minimum of `health.canary_interval`.
const RETRY: Duration = Duration::from_secs(60);

/// Sends canaries to a store now, and uses what they show.
pub async fn check(store: &Store) -> Canary {
    let canary = tokio::time::timeout(DEADLINE, store.send_canaries()).await;
    let canary = canary
        .unwrap_or_else(|_| Canary::failed(&format!("there was no answer within {} s", DEADLINE.as_secs())));
    let before = store.canary();
    let canary = canary.after(before.as_deref());
    if before.as_deref() != Some(&canary) {
        report(store, &canary);
    }
    tracing::debug!(store = %store.name(), evidence = canary.worst().as_str(), "sent canaries");
    store.use_canary(canary.clone());
    canary
}

/// Sends the first canaries to all stores at the same time, for a command, which does not send any afterwards.
pub async fn send_first(context: &Context) {
    let unknown = context.stores.all().filter(|store| store.canary().is_none());
    join_all(unknown.map(check)).await;
}

/// Sends canaries to all stores that respond. Returns whether everything was found out.
async fn check_all(context: &Context) -> bool {
    let checks = join_all(context.stores.all().map(|store| check_if_up(context, store))).await;
    checks.into_iter().all(|is_conclusive| is_conclusive)
}

/// A store proves nothing while it is down; what it showed before is still used.
async fn check_if_up(context: &Context, store: &Store) -> bool {
    context.stores.health().responds(store.name().as_str()) && check(store).await.is_conclusive()
}

/// Sends canaries at once and at every `health.canary_interval`, until `shutdown`; sooner, with growing pauses, if they did
/// not show everything.
pub(super) async fn watch(context: &Context, shutdown: &CancellationToken) {
    let Some(interval) = context.config.health.canary_interval else { return };
    let (interval, mut inconclusive) = (interval.max(RETRY), 0_u32);
    loop {
        let is_conclusive = tokio::select! {
            () = shutdown.cancelled() => return,
            is_conclusive = check_all(context) => is_conclusive,
        };
        // Some stores will never answer one of them.
        let pause = if is_conclusive { interval } else { retry::interval(inconclusive, RETRY, interval) };
        inconclusive = if is_conclusive { 0 } else { inconclusive.saturating_add(1) };
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Logs what a store does that costs more requests, or is worse.
fn report(store: &Store, canary: &Canary) {
    for (check, outcome) in canary.outcomes() {
        let check = check.as_str();
        match outcome {
            Outcome::Refuses => {}
            Outcome::Accepts => tracing::info!(
                store = %store.name(),
                check,
                "the store does not verify this checksum: what is sent with it is verified by another request"
            ),
            Outcome::Alters => tracing::error!(
                target: "nightferry::sync",
                store = %store.name(),
                check,
                "the store acknowledged content and stored other content"
            ),
            Outcome::Unknown(error) => {
                tracing::debug!(store = %store.name(), check, error, "a canary showed nothing");
            }
        }
    }
    if canary.heads_lie() {
        tracing::warn!(
            target: "nightferry::sync",
            store = %store.name(),
            "the store returns checksums that are not those of its content: everything written to it is read back"
        );
    }
}
