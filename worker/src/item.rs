//! One claimed copy from its claim to its outcome: committed, failed, or released.

use std::time::Duration;

use nightferry_core::context::Context;
use nightferry_core::db::enums::RunTrigger;
use nightferry_core::db::replicas::{Claim, Finished};
use nightferry_core::db::runs::Run;
use nightferry_core::error::Result;
use nightferry_core::ids::{LeaseToken, RunId};
use nightferry_core::tiering::copy::outcome::{self, Blame};
use nightferry_core::tiering::copy::{self, Copied, CopyError, CopyLease};
use nightferry_core::tiering::db_outage::retry_on_db_outage;
use nightferry_core::tiering::{Engine, claim, commit, window};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::committer::Finish;
use crate::leases::Held;

/// Shared by all copies of a worker.
#[derive(Clone)]
pub(crate) struct WorkerShared {
    pub(crate) context: Context,
    pub(crate) engine: Engine,
    pub(crate) slots: std::sync::Arc<Semaphore>,
    pub(crate) finished: mpsc::Sender<Finish>,
    /// Nothing new is started in this worker.
    pub(crate) draining: CancellationToken,
    /// Remaining copies are dropped.
    pub(crate) grace_over: CancellationToken,
}

impl WorkerShared {
    /// Lets copies in flight finish within the grace time; the rest returns to the queue.
    pub(crate) async fn drain<T: 'static>(&self, in_flight: &mut JoinSet<T>) {
        let all_done = async { while in_flight.join_next().await.is_some() {} };
        if tokio::time::timeout(self.context.config.tiering.shutdown_grace, all_done).await.is_err() {
            self.grace_over.cancel();
            while in_flight.join_next().await.is_some() {}
        }
    }
}

/// What the task of a copy returned; nothing if it failed.
pub(crate) fn finished<T>(ended: std::result::Result<T, JoinError>) -> Option<T> {
    ended
        .inspect_err(|error| {
            tracing::error!(target: "nightferry::sync", %error, "the task of a copy failed; its lease \
                expires and it is made again");
        })
        .ok()
}

/// The active run.
#[derive(Debug, Clone)]
pub(crate) struct Assignment {
    pub(crate) id: RunId,
    /// Trigger: the transfer window may not apply to manual runs.
    pub(crate) trigger: RunTrigger,
    /// Nothing new of it starts: it was cancelled, or cannot continue.
    pub(crate) stopped: CancellationToken,
    /// Nothing new of it starts until the transfer window opens again.
    pub(crate) closed: CancellationToken,
}

impl Assignment {
    pub(crate) fn of(run: &Run) -> Self {
        let (stopped, closed) = (CancellationToken::new(), CancellationToken::new());
        Self { id: run.id, trigger: run.trigger, stopped, closed }
    }
}

/// Makes one claimed copy, of a run or on demand, and records the outcome. If the outcome cannot be recorded, the copy
/// is reclaimed when its lease expires.
pub(crate) async fn process(shared: WorkerShared, run: Option<Assignment>, held: Held, claim: Claim) {
    let token = held.lease().token();
    let outcome = tokio::select! {
        biased;
        () = shared.grace_over.cancelled() => None,
        outcome = attempt(&shared, run.as_ref(), held.lease(), &claim) => outcome,
    };
    let recorded = match outcome {
        None => {
            retry_on_db_outage(|| commit::release(&shared.context, token, &claim, None, Duration::ZERO)).await
        }
        Some(Ok(copied)) => {
            let (health, now) = (shared.context.stores.health(), shared.context.clock.now());
            let source = copy::source_of(&shared.context, &claim).map(|source| source.name().as_str());
            health.copied(source, &claim.store, now);
            let finished = Finished {
                object_id: claim.object_id,
                store: claim.store.clone(),
                token,
                etag: copied.etag,
                envelope: copied.envelope,
                size: claim.size,
            };
            // The committer ends after the last sender has been dropped.
            let _ = shared.finished.send((finished, held)).await;
            return;
        }
        Some(Err(error)) => {
            tracing::warn!(target: "nightferry::sync", object = %claim.object_id, store = claim.store, attempt = claim.attempts + 1, %error, "a copy failed");
            // There is no time to determine the cause while draining, so the failure is not counted as an attempt.
            let blame = tokio::select! {
                biased;
                () = shared.draining.cancelled(), if is_outage(&error) => Blame::Outage,
                blame = Blame::of(&shared.context, &claim, &error) => blame,
            };
            retry_on_db_outage(|| failed(&shared, run.as_ref(), token, &claim, &error, blame)).await
        }
    };
    if let Err(error) = recorded {
        tracing::warn!(target: "nightferry::sync", object = %claim.object_id, %error, "cannot record the \
            outcome of a copy; its lease expires and it is tried again");
    }
}

/// Waits for a free slot and copies. `None` if nothing new may start.
async fn attempt(
    shared: &WorkerShared,
    run: Option<&Assignment>,
    lease: &CopyLease,
    claim: &Claim,
) -> Option<std::result::Result<Copied, CopyError>> {
    let never = CancellationToken::new();
    let stopped = run.map_or(&never, |run| &run.stopped);
    let closed = run.map_or(&never, |run| &run.closed);
    let _slot = tokio::select! {
        biased;
        () = shared.draining.cancelled() => return None,
        () = stopped.cancelled() => return None,
        () = closed.cancelled() => return None,
        slot = shared.slots.acquire() => slot.ok()?,
    };
    if claim::is_blocked(&shared.context, claim) || shared.draining.is_cancelled() || stopped.is_cancelled() {
        return None;
    }
    if run.is_some_and(|run| window::opens_at(&shared.context, run.trigger).is_some()) {
        return None;
    }
    Some(copy::copy(&shared.engine, claim, lease).await)
}

fn is_outage(error: &CopyError) -> bool {
    matches!(error, CopyError::Store(error) if error.is_outage() || error.condition().is_some())
}

async fn failed(
    shared: &WorkerShared,
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
    let recorded = outcome::record_failure(&shared.context, run, token, claim, error, blame).await?;
    if let Some(commit::Outcome::GivenUp { attempts }) = recorded {
        metrics::counter!("nightferry_sync_files_total", "outcome" => "failed").increment(1);
        tracing::error!(target: "nightferry::sync", object = %claim.object_id, store = claim.store, attempts, %error, "a \
            copy failed permanently");
    }
    Ok(())
}
