//! One claimed copy from claim to outcome: copied, failed, or given back.

use std::time::Duration;

use nightferry_core::context::Context;
use nightferry_core::db::enums::RunTrigger;
use nightferry_core::db::replicas::{Claim, Finished};
use nightferry_core::db::runs::Run;
use nightferry_core::error::Result;
use nightferry_core::ids::{LeaseToken, RunId};
use nightferry_core::tiering::copy::{self, Copied, CopyError};
use nightferry_core::tiering::copy_outcome::{self, Blame};
use nightferry_core::tiering::patience::patiently;
use nightferry_core::tiering::{Engine, claim, settle, window};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::committer::Finish;
use crate::leases::Held;

/// What all copies of a worker share.
#[derive(Clone)]
pub(crate) struct Workbench {
    pub(crate) context: Context,
    pub(crate) engine: Engine,
    pub(crate) slots: std::sync::Arc<Semaphore>,
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
        None => patiently(|| settle::release(&bench.context, token, &claim, None, Duration::ZERO)).await,
        Some(Ok(copied)) => {
            let (health, now) = (bench.context.stores.health(), bench.context.clock.now());
            let source = copy::source_of(&bench.context, &claim).map(|source| source.name().as_str());
            [Some(claim.store.as_str()), source]
                .into_iter()
                .flatten()
                .for_each(|store| health.answered(store, now, None));
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
            // There is no time to find out while draining: then no file shall pay for it.
            let blame = tokio::select! {
                biased;
                () = bench.draining.cancelled(), if is_outage(&error) => Blame::Outage,
                blame = Blame::of(&bench.context, &error) => blame,
            };
            patiently(|| failed(&bench, run.as_ref(), token, &claim, &error, blame)).await
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
    if claim::is_blocked(&bench.context, claim) || bench.draining.is_cancelled() || stopped.is_cancelled() {
        return None;
    }
    if run.is_some_and(|run| window::opens_at(&bench.context, run.trigger).is_some()) {
        return None;
    }
    Some(copy::copy(&bench.engine, claim, token).await)
}

fn is_outage(error: &CopyError) -> bool {
    matches!(error, CopyError::Store(error) if error.is_outage())
}

async fn failed(
    bench: &Workbench,
    run: Option<&Assignment>,
    token: LeaseToken,
    claim: &Claim,
    error: &CopyError,
    blame: Blame,
) -> Result<()> {
    if let (Blame::Credentials, Some(run)) = (blame, run) {
        run.stopped.cancel();
    }
    let run = run.map(|run| run.id);
    let outcome = copy_outcome::record_failure(&bench.context, run, token, claim, error, blame).await?;
    if let Some(settle::Outcome::GivenUp { attempts }) = outcome {
        metrics::counter!("nightferry_sync_files_total", "outcome" => "failed").increment(1);
        tracing::error!(target: "nightferry::sync", object = %claim.object_id, store = claim.store, attempts, %error, "a copy was given up");
    }
    Ok(())
}
