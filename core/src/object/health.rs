//! Periodic checks of every store, so that [`crate::stores::Health`] detects an outage before users do. A store that is
//! not healthy is checked more often, with increasing pauses, until it is healthy.
//!
//! Each process has its own view, because a store can be reachable for one and not for another; it is written to the
//! database for operators.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{canary, empty_catalogue, identity};
use crate::context::Context;
use crate::db::store_health::{self, Seen};
use crate::error::Result;
use crate::store::{Store, StoreError};
use crate::stores::{Failure, Identity, StoreHealth};

/// Timeout of a check. A slower store is unusable.
const DEADLINE: Duration = Duration::from_secs(5);

/// Checks all stores once, concurrently.
pub async fn check_all(context: &Context) {
    join_all(context.stores.all().map(|store| check_store(context, store))).await;
}

/// Checks one store.
///
/// # Errors
/// Reason why the store is unusable. A cancelled check is not counted.
pub async fn check_store(context: &Context, store: &Store) -> Result<(), String> {
    let (started, name) = (Instant::now(), store.name().as_str());
    let failure = match tokio::time::timeout(DEADLINE, store.check()).await {
        Ok(Ok(())) => {
            context.stores.health().answered(name, context.clock.now(), Some(started.elapsed()));
            return Ok(());
        }
        // An error response counts like no response: nothing can be read or written.
        Ok(Err(error)) => Failure { error: error.to_string(), refused: !error.is_outage() },
        Err(_) => Failure {
            error: format!("store {name} did not respond within {} s", DEADLINE.as_secs()),
            refused: false,
        },
    };
    let error = failure.error.clone();
    context.stores.health().saw(name, context.clock.now(), None, Some(failure));
    Err(error)
}

/// Records a failure of a store. If the failure is an outage, checks the store at once, until its state is certain.
/// Returns whether the store is unhealthy; then the store, not the operation, caused the failure.
pub async fn is_outage(context: &Context, error: &StoreError) -> bool {
    context.stores.health().failed(error, context.clock.now());
    let Some(store) = context.stores.get(error.store().as_str()).filter(|_| error.is_outage()) else {
        return false;
    };
    let known = |of: fn(&StoreHealth) -> bool| {
        context.stores.health().of(store.name().as_str()).is_some_and(|health| of(&health))
    };
    for _ in 0..context.config.health.failures {
        if known(StoreHealth::is_out) {
            return true;
        }
        if check_store(context, store).await.is_ok() || known(|health| health.refused) {
            return false;
        }
    }
    true
}

/// Checks every store, its identity, what it verifies, and whether the database lacks its objects, periodically until
/// `shutdown`, and stores that are not healthy more often.
/// Records the results as those of `program` (`api` or `worker`).
pub async fn watch(context: Context, program: &'static str, shutdown: CancellationToken) {
    tokio::join!(
        identity::watch(&context, &shutdown),
        canary::watch(&context, &shutdown),
        empty_catalogue::watch(&context, &shutdown),
        probe(&context, program, &shutdown)
    );
}

async fn probe(context: &Context, program: &'static str, shutdown: &CancellationToken) {
    let observer = Uuid::now_v7();
    let interval = context.config.health.interval;
    let mut all_at = Instant::now() + interval;
    loop {
        let next = context.stores.health().next_probe().map_or(all_at, |at| at.min(all_at));
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep_until(next.into()) => {}
            // A store that has become suspect is checked soon.
            () = context.stores.health().becomes_suspect() => continue,
        }
        let now = Instant::now();
        if now >= all_at {
            check_all(context).await;
            all_at = now + interval;
        } else {
            let due = context
                .stores
                .all()
                .filter(|store| context.stores.health().is_probe_due(store.name().as_str(), now));
            join_all(due.map(|store| check_store(context, store))).await;
        }
        if let Err(error) = write_reports(context, observer, program).await {
            tracing::debug!(%error, "cannot write the health of the stores");
        }
    }
    let forget = async { store_health::forget(&mut *context.db.conn().await?, observer).await };
    if let Err(error) = forget.await {
        tracing::debug!(%error, "cannot delete the health reports of this process; they will expire");
    }
}

/// Why the store may not be the recorded one, if so.
fn doubt(context: &Context, store: &str) -> Option<String> {
    context.stores.health().identities().of(store).filter(Identity::is_in_doubt)?.reason()
}

/// How writes to the store are verified; `None` before its canaries.
fn evidence(context: &Context, store: &str) -> Option<String> {
    Some(context.stores.get(store)?.canary()?.worst().as_str().to_owned())
}

async fn write_reports(context: &Context, observer: Uuid, program: &str) -> Result<()> {
    let known = context.stores.health().all();
    // A paused store responds to probes, so the reason of the pause is shown in place of an error.
    let mut paused = context.stores.health().paused();
    let mut seen: Vec<Seen> = known
        .into_iter()
        .map(|(store, health)| {
            let pause = paused.remove(&store).map(|paused| format!("paused: {}", paused.reason));
            let last_error = health.last_error.or_else(|| doubt(context, &store)).or(pause);
            let latency =
                health.latency.map(|latency| i32::try_from(latency.as_millis()).unwrap_or(i32::MAX));
            let evidence = evidence(context, &store);
            Seen { store, up: health.up, since: health.since, latency_ms: latency, last_error, evidence }
        })
        .collect();
    seen.extend(paused.into_iter().map(|(store, paused)| Seen {
        evidence: evidence(context, &store),
        store,
        up: true,
        since: paused.since,
        latency_ms: None,
        last_error: Some(format!("paused: {}", paused.reason)),
    }));
    store_health::write(&mut *context.db.conn().await?, observer, program, &seen).await
}
