//! One claimed copy from claim to outcome: copied, failed, or given back.

use std::time::Duration;

use nightferry_core::context::Context;
use nightferry_core::db::enums::RunTrigger;
use nightferry_core::db::replicas::{Claim, Finished};
use nightferry_core::db::runs::Run;
use nightferry_core::error::Result;
use nightferry_core::ids::{LeaseToken, RunId};
use nightferry_core::tiering::copy::{self, Copied, CopyError};
use nightferry_core::tiering::patience::patiently;
use nightferry_core::tiering::{Engine, run, settle, window};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::breaker_gate::Gate;
use crate::committer::Finish;
use crate::leases::Held;

/// Before a copy is claimed again that was given back because a store is down.
const PAUSE_FOR_OUTAGE: Duration = Duration::from_secs(2);
/// Before a copy of no run is claimed again that was refused for its credentials.
const PAUSE_FOR_CREDENTIALS: Duration = Duration::from_secs(60);

/// What all copies of a worker share.
#[derive(Clone)]
pub(crate) struct Workbench {
    pub(crate) context: Context,
    pub(crate) engine: Engine,
    pub(crate) slots: std::sync::Arc<Semaphore>,
    pub(crate) gate: Gate,
    pub(crate) finished: mpsc::Sender<Finish>,
    /// Nothing new starts in this worker.
    pub(crate) draining: CancellationToken,
    /// What still runs is dropped.
    pub(crate) grace_over: CancellationToken,
}

/// The run that is being worked on.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) id: RunId,
    /// Who asked for it: the transfer window does not hold for everybody.
    pub(crate) trigger: RunTrigger,
    /// Nothing new of it starts: it was cancelled, or cannot go on.
    pub(crate) stopped: CancellationToken,
    /// Nothing new of it starts before the transfer window opens again.
    pub(crate) closed: CancellationToken,
}

impl Assignment {
    pub(crate) fn of(run: &Run) -> Self {
        let (stopped, closed) = (CancellationToken::new(), CancellationToken::new());
        Self { id: run.id, trigger: run.trigger, stopped, closed }
    }
}

/// Copies one claim, of a run or on demand, and records the outcome. What cannot be recorded is found again when the lease runs out.
pub(crate) async fn process(bench: Workbench, run: Option<Assignment>, held: Held, claim: Claim) {
    let token = held.token();
    let outcome = tokio::select! {
        biased;
        () = bench.grace_over.cancelled() => None,
        outcome = attempt(&bench, run.as_ref(), token, &claim) => outcome,
    };
    let recorded = match outcome {
        None => patiently(|| give_back(&bench, token, &claim, None, Duration::ZERO)).await,
        Some(Ok(copied)) => {
            bench.gate.succeeded(&claim.store);
            bench.context.stores.health().answered(&claim.store, bench.context.clock.now(), None);
            if let Some(source) = copy::source_of(&bench.context, &claim) {
                bench.gate.succeeded(source.name().as_str());
            }
            let finished = Finished {
                object_id: claim.object_id,
                store: claim.store.clone(),
                token,
                etag: copied.etag,
                seal: copied.seal,
                size: claim.size,
            };
            // The committer ends after the last sender is gone.
            let _ = bench.finished.send((finished, held)).await;
            return;
        }
        Some(Err(error)) => {
            tracing::warn!(target: "nightferry::sync", object = %claim.object_id, store = claim.store, attempt = claim.attempts + 1, %error, "a copy failed");
            if let CopyError::Store(error) = &error {
                bench.context.stores.health().failed(error, bench.context.clock.now());
            }
            let down = store_is_down(&bench, &error).await;
            patiently(|| failed(&bench, run.as_ref(), token, &claim, &error, down)).await
        }
    };
    if let Err(error) = recorded {
        tracing::warn!(target: "nightferry::sync", object = %claim.object_id, %error, "the outcome of a copy could not be recorded; its lease runs out and it is tried again");
    }
}

/// Waits for a free slot and copies. None when nothing new may start.
async fn attempt(
    bench: &Workbench,
    run: Option<&Assignment>,
    token: LeaseToken,
    claim: &Claim,
) -> Option<std::result::Result<Copied, CopyError>> {
    let never = CancellationToken::new();
    let stopped = run.map_or(&never, |run| &run.stopped);
    let closed = run.map_or(&never, |run| &run.closed);
    let _slot = tokio::select! {
        biased;
        () = bench.draining.cancelled() => return None,
        () = stopped.cancelled() => return None,
        () = closed.cancelled() => return None,
        slot = bench.slots.acquire() => slot.ok()?,
    };
    if bench.gate.blocks(claim) || bench.draining.is_cancelled() || stopped.is_cancelled() {
        return None;
    }
    if run.is_some_and(|run| window::opens_at(&bench.context, run.trigger).is_some()) {
        return None;
    }
    Some(copy::copy(&bench.engine, claim, token).await)
}

/// Whether a copy failed because a whole store is out of order. There is no time to find out while draining: then no
/// file shall pay for it either.
async fn store_is_down(bench: &Workbench, error: &CopyError) -> bool {
    let CopyError::Store(error) = error else { return false };
    if !error.is_outage() {
        return false;
    }
    tokio::select! {
        biased;
        () = bench.draining.cancelled() => true,
        down = bench.gate.is_down(&bench.context, error) => down,
    }
}

async fn give_back(
    bench: &Workbench,
    token: LeaseToken,
    claim: &Claim,
    error: Option<&str>,
    delay: Duration,
) -> Result<()> {
    settle::release(&bench.context, token, claim, error, delay).await
}

async fn failed(
    bench: &Workbench,
    run: Option<&Assignment>,
    token: LeaseToken,
    claim: &Claim,
    error: &CopyError,
    store_is_down: bool,
) -> Result<()> {
    let text = error.to_string();
    match error {
        CopyError::LeaseLost => Ok(()),
        CopyError::Database(_) => give_back(bench, token, claim, None, PAUSE_FOR_OUTAGE).await,
        // Wrong for one file, wrong for all: nobody's attempts are burnt on it.
        CopyError::Store(store) if store.is_credentials() => {
            let Some(run) = run else {
                return give_back(bench, token, claim, Some(&text), PAUSE_FOR_CREDENTIALS).await;
            };
            run.stopped.cancel();
            run::stop(&bench.context, run.id, &text).await?;
            give_back(bench, token, claim, Some(&text), Duration::ZERO).await
        }
        // The store is ill, not the file.
        _ if store_is_down => give_back(bench, token, claim, Some(&text), PAUSE_FOR_OUTAGE).await,
        _ => {
            let outcome = settle::fail(&bench.context, claim, token, run.map(|run| run.id), error).await?;
            if let settle::Outcome::GivenUp { attempts } = outcome {
                metrics::counter!("nightferry_sync_files_total", "outcome" => "failed").increment(1);
                tracing::error!(target: "nightferry::sync", object = %claim.object_id, store = claim.store, attempts, error = text, "a copy was given up");
            }
            Ok(())
        }
    }
}
