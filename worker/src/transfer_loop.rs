//! The loop that keeps copies in flight: find the active run, claim batches, end the run when nothing is left,
//! drain when asked to.

use std::sync::Arc;
use std::time::Duration;

use nightferry_core::context::Context;
use nightferry_core::db::runs::Run;
use nightferry_core::error::Result;
use nightferry_core::ids::{RunId, WorkerId};
use nightferry_core::tiering::{claim, run};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::breaker_gate::Gate;
use crate::heartbeat::Activity;
use crate::item::{self, Workbench};
use crate::wake::Wake;
use crate::{committer, jobs};

/// Without a notification the loop looks for a run this often.
const IDLE: Duration = Duration::from_secs(5);
/// While a run waits for others' copies or for a backoff to end, it is looked at this often.
const WAITING: Duration = Duration::from_millis(500);

/// Runs until `shutdown`, then drains.
pub(crate) async fn run(
    context: &Context,
    worker: WorkerId,
    wake: &Wake,
    activity: &Activity,
    shutdown: &CancellationToken,
) {
    let (sender, receiver) = mpsc::channel(1024);
    let slots = Arc::new(Semaphore::new(context.config.tiering.concurrency.max(1)));
    let committing = tokio::spawn(committer::run(context.clone(), receiver, slots.clone(), wake.clone()));
    let mut state = Loop {
        worker,
        current: None,
        in_flight: JoinSet::new(),
        bench: Workbench {
            context: context.clone(),
            slots,
            gate: Gate::default(),
            finished: sender,
            draining: shutdown.clone(),
            grace_over: CancellationToken::new(),
        },
    };
    while !shutdown.is_cancelled() {
        let pause = match state.step().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "the transfer loop cannot go on, trying again");
                Some(WAITING)
            }
        };
        activity.set_working(!state.in_flight.is_empty());
        if let Some(pause) = pause {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = wake.wait(pause) => {}
                Some(_) = state.in_flight.join_next() => {}
            }
        }
    }
    activity.set_draining();
    state.drain().await;
    drop(state);
    if let Err(error) = committing.await {
        tracing::error!(target: "nightferry::sync", %error, "the committer ended badly");
    }
}

struct Loop {
    worker: WorkerId,
    /// The run that is being worked on.
    current: Option<RunId>,
    in_flight: JoinSet<()>,
    bench: Workbench,
}

impl Loop {
    /// One look at the work. Answers how long to wait for something to happen before the next one; none: not at all.
    async fn step(&mut self) -> Result<Option<Duration>> {
        while self.in_flight.try_join_next().is_some() {}
        let context = self.bench.context.clone();
        if let Some(pause) = self.bench.gate.probe_in() {
            if pause.is_zero() {
                self.bench.gate.probe(&context).await;
                return Ok(None);
            }
            return Ok(Some(pause));
        }
        let Some(run) = self.active_run().await? else { return Ok(Some(IDLE)) };
        // The next batch is claimed while the last one is still in flight, so that no slot waits for the database.
        while self.in_flight.len() <= context.config.tiering.concurrency {
            if self.bench.draining.is_cancelled() {
                return Ok(Some(WAITING));
            }
            let batch = claim::next_batch(&context, run, self.worker).await?;
            if batch.claims.is_empty() {
                return self.end_of_queue(run).await;
            }
            for claim in batch.claims {
                self.in_flight.spawn(item::process(self.bench.clone(), run, batch.token, claim));
            }
        }
        Ok(Some(WAITING))
    }

    /// Nothing is due: the run has ended, or waits for a backoff or for other workers.
    async fn end_of_queue(&mut self, run: RunId) -> Result<Option<Duration>> {
        self.current = None;
        if !self.in_flight.is_empty() {
            return Ok(Some(WAITING));
        }
        let context = self.bench.context.clone();
        let Some(ended) = run::settle(&context, run).await? else { return Ok(Some(WAITING)) };
        tell(&ended);
        jobs::housekeeping(context, self.worker).await;
        Ok(None)
    }

    /// The running run; a queued one is planned and started first. Remembered until its queue is empty: a run that
    /// is stopped loses what is queued, so nothing more is claimed of it.
    async fn active_run(&mut self) -> Result<Option<RunId>> {
        if self.current.is_none() {
            self.current = self.find_run().await?.map(|run| run.id);
        }
        Ok(self.current)
    }

    async fn find_run(&self) -> Result<Option<Run>> {
        let context = &self.bench.context;
        if let Some(run) = run::active(context).await? {
            if run.started_at.is_some() {
                return Ok(Some(run));
            }
            if let Some(started) = run::start_queued(context).await? {
                tracing::info!(target: "nightferry::sync", run = %started.id, trigger = %started.trigger, files = started.files_total, bytes = started.bytes_total, "run starts");
                return Ok(Some(started));
            }
        }
        Ok(None)
    }

    /// Lets what is in flight finish within the grace time; the rest goes back to the queue.
    async fn drain(&mut self) {
        let grace = self.bench.context.config.tiering.drain_grace;
        tracing::info!(target: "nightferry::sync", in_flight = self.in_flight.len(), "draining");
        let all_done = async { while self.in_flight.join_next().await.is_some() {} };
        if tokio::time::timeout(grace, all_done).await.is_err() {
            self.bench.grace_over.cancel();
            while self.in_flight.join_next().await.is_some() {}
        }
    }
}

fn tell(run: &Run) {
    metrics::counter!("nightferry_runs_ended_total", "status" => run.status.as_str()).increment(1);
    tracing::info!(
        target: "nightferry::sync",
        run = %run.id,
        status = %run.status,
        files = run.files_total,
        done = run.files_done,
        failed = run.files_failed,
        bytes = run.bytes_done,
        error = run.error,
        "run ends"
    );
}
