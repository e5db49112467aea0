//! The loop that keeps copies in flight: find the active run, claim batches, end the run when nothing is left, shut
//! down on request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nightferry_core::context::Context;
use nightferry_core::db::runs::Run;
use nightferry_core::db::unsigned;
use nightferry_core::error::Result;
use nightferry_core::ids::{RunId, WorkerId};
use nightferry_core::tiering::copy::CopyLease;
use nightferry_core::tiering::{Engine, claim, copy, run, window};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::forecast_warning::ForecastWarning;
use crate::heartbeat::Activity;
use crate::item::{self, Assignment, WorkerShared};
use crate::leases::Leases;
use crate::wake::Wake;
use crate::{committer, fetch_loop, jobs};

/// The polling interval without notifications.
const IDLE: Duration = Duration::from_secs(5);
/// The polling interval while a run waits for copies of other workers or for a backoff.
const WAITING: Duration = Duration::from_millis(500);
/// The polling interval while a run waits for the transfer window.
const CLOSED: Duration = Duration::from_secs(1);

/// Runs until `shutdown`, then shuts down.
pub(crate) async fn run(
    engine: &Engine,
    worker: WorkerId,
    wake: &Wake,
    fetch_wake: &Wake,
    activity: &Activity,
    leases: &Leases,
    shutdown: &CancellationToken,
) {
    let context = &engine.context;
    let (sender, receiver) = mpsc::channel(1024);
    let slots = Arc::new(Semaphore::new(context.config.tiering.concurrency.max(1)));
    let committing = tokio::spawn(committer::run(context.clone(), receiver, slots.clone(), wake.clone()));
    let mut state = Loop {
        worker,
        current: None,
        last: None,
        looked: Instant::now(),
        waiting: None,
        forecast_warning: ForecastWarning::default(),
        leases: leases.clone(),
        in_flight: JoinSet::new(),
        streams: 0,
        chores: JoinSet::new(),
        shared: WorkerShared {
            context: context.clone(),
            engine: engine.clone(),
            slots,
            finished: sender,
            draining: shutdown.clone(),
            grace_over: CancellationToken::new(),
        },
    };
    let fetching = tokio::spawn(fetch_loop::run(
        state.shared.clone(),
        worker,
        fetch_wake.clone(),
        activity.clone(),
        leases.clone(),
    ));
    while !shutdown.is_cancelled() {
        let pause = match state.step().await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "the transfer loop cannot continue; retrying");
                Some(WAITING)
            }
        };
        activity.set_working(!state.in_flight.is_empty());
        if let Some(pause) = pause {
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = wake.wait(pause) => {}
                Some(ended) = state.in_flight.join_next() => state.on_finished(ended),
            }
        }
    }
    activity.set_draining();
    state.drain().await;
    if let Err(error) = fetching.await {
        tracing::error!(target: "nightferry::sync", %error, "the task of on-demand copies failed");
    }
    drop(state);
    if let Err(error) = committing.await {
        tracing::error!(target: "nightferry::sync", %error, "the committer task failed");
    }
}

struct Loop {
    worker: WorkerId,
    current: Option<Assignment>,
    /// The active run, kept when its queue is empty: it may not have ended yet.
    last: Option<Assignment>,
    /// When the run was last seen active.
    looked: Instant,
    /// The run that was last seen waiting for the transfer window.
    waiting: Option<RunId>,
    forecast_warning: ForecastWarning,
    leases: Leases,
    /// Claimed copies that are not finished; each returns the number of streams it used.
    in_flight: JoinSet<usize>,
    /// The number of streams used by all of them.
    streams: usize,
    /// Work that follows a run.
    chores: JoinSet<()>,
    shared: WorkerShared,
}

impl Loop {
    /// One iteration. Returns how long to wait for an event before the next one; `None`: not at all.
    async fn step(&mut self) -> Result<Option<Duration>> {
        while let Some(ended) = self.in_flight.try_join_next() {
            self.on_finished(ended);
        }
        let context = self.shared.context.clone();
        let Some(run) = self.active_run().await? else { return Ok(Some(IDLE)) };
        self.forecast_warning.refresh(&context, run.id).await;
        if let Some(opens) = window::opens_at(&context, run.trigger) {
            return self.wait_for_window(&run, opens).await;
        }
        if self.waiting.take() == Some(run.id) {
            tracing::info!(target: "nightferry::sync", run = %run.id, "the transfer window is open: the \
                run continues");
        }
        if self.looked.elapsed() >= WAITING {
            self.check_stopped(&run).await?;
        }
        while let most @ 1.. = self.claim_limit() {
            if self.shared.draining.is_cancelled() {
                return Ok(Some(WAITING));
            }
            let started = Instant::now();
            let batch = claim::next_batch(&context, run.id, self.worker, most).await?;
            if batch.claims.is_empty() {
                let looked = started.elapsed();
                let pause = self.end_of_queue(run.id).await?;
                let out = !context.stores.health().out().is_empty();
                return Ok(pause.map(|pause| idle_wait(pause, out, looked)));
            }
            let leases: Vec<CopyLease> = batch.claims.iter().map(|claim| batch.lease_of(claim)).collect();
            for (claim, lease) in batch.claims.into_iter().zip(leases) {
                let streams = copy::streams_for(&context.config.tiering, unsigned(claim.size));
                let held = self.leases.hold(lease);
                let copying = item::process(self.shared.clone(), Some(run.clone()), held, claim);
                self.streams += streams;
                self.in_flight.spawn(async move {
                    copying.await;
                    streams
                });
            }
        }
        Ok(Some(WAITING))
    }

    /// The window is closed: copies in flight finish, and claimed copies that have not started are released. Such a run
    /// can still be cancelled, and it ends if nothing is left.
    async fn wait_for_window(&mut self, run: &Assignment, opens: DateTime<Utc>) -> Result<Option<Duration>> {
        run.closed.cancel();
        // The run is reloaded, and gets a new start signal, once the window opens.
        (self.current, self.last) = (None, None);
        if self.waiting.replace(run.id) != Some(run.id) {
            tracing::info!(target: "nightferry::sync", run = %run.id, in_flight = self.in_flight.len(), %opens, "the \
                transfer window is closed: transfers in flight finish, the rest of the run waits");
        }
        if self.in_flight.is_empty() && self.ended(run.id).await? {
            return Ok(None);
        }
        Ok(Some(CLOSED))
    }

    /// How many copies to claim now. The next ones are claimed while the last ones are still in flight, so that no slot
    /// waits for the database; but only as many as keep this worker busy, because others may share the run. Whether
    /// files are small is known after the first batch.
    fn claim_limit(&self) -> usize {
        let tiering = &self.shared.context.config.tiering;
        let (batch, in_flight) = (usize::try_from(tiering.batch_size).unwrap_or(1), self.in_flight.len());
        if in_flight > tiering.concurrency || self.streams >= tiering.streams {
            0
        } else if in_flight > 0 && self.streams == 0 {
            batch.max(tiering.concurrency.saturating_mul(2).saturating_sub(in_flight))
        } else {
            batch
        }
    }

    /// A copy has finished, with any outcome.
    fn on_finished(&mut self, ended: std::result::Result<usize, JoinError>) {
        self.streams = self.streams.saturating_sub(item::finished(ended).unwrap_or(0));
        if self.in_flight.is_empty() {
            self.streams = 0;
        }
    }

    /// No copy is due: the run has ended, or waits for a backoff or for other workers.
    async fn end_of_queue(&mut self, run: RunId) -> Result<Option<Duration>> {
        self.current = None;
        if !self.in_flight.is_empty() {
            return Ok(Some(WAITING));
        }
        if self.ended(run).await? {
            return Ok(None);
        }
        // A run that was stopped ends in the next iteration.
        let stopped = run::stop_if_blocked(&self.shared.context, run).await?;
        Ok(if stopped { None } else { Some(WAITING) })
    }

    /// Ends the run if nothing of it is left, and starts the work that follows. Returns whether it has ended.
    async fn ended(&mut self, run: RunId) -> Result<bool> {
        let context = self.shared.context.clone();
        let Some(ended) = run::settle(&context, run).await? else { return Ok(false) };
        tell(&ended);
        // Concurrently with the loop: the next run does not have to wait for evictions.
        while self.chores.try_join_next().is_some() {}
        if self.chores.is_empty() && !context.clock.is_wrong() {
            self.chores.spawn(after_run(context, self.worker, self.shared.draining.clone()));
        }
        Ok(true)
    }

    /// The running run; a queued one is planned and started first. Kept until its queue is empty: a cancelled run loses
    /// its queued copies, so nothing more is claimed of it.
    async fn active_run(&mut self) -> Result<Option<Assignment>> {
        if self.current.is_none() {
            let found = self.find_run().await?;
            let known = self.last.take();
            self.current = found.map(|run| match known {
                Some(known) if known.id == run.id => known,
                _ => Assignment::of(&run),
            });
            self.last.clone_from(&self.current);
        }
        Ok(self.current.clone())
    }

    /// Claimed copies of a run that was cancelled in the meantime must not be started.
    async fn check_stopped(&mut self, run: &Assignment) -> Result<()> {
        if run::is_stopped(&self.shared.context, run.id).await? {
            run.stopped.cancel();
        }
        self.looked = Instant::now();
        Ok(())
    }

    async fn find_run(&self) -> Result<Option<Run>> {
        let context = &self.shared.context;
        if let Some(run) = run::active(context).await? {
            if run.started_at.is_some() {
                return Ok(Some(run));
            }
            if let Some(started) = run::start_queued(context).await? {
                tracing::info!(target: "nightferry::sync", run = %started.id, trigger = %started.trigger, files = started.files_total, bytes = started.bytes_total, "run \
                    started");
                return Ok(Some(started));
            }
        }
        Ok(None)
    }

    /// Lets transfers in flight finish within the grace time; the rest returns to the queue.
    async fn drain(&mut self) {
        tracing::info!(target: "nightferry::sync", in_flight = self.in_flight.len(), "draining");
        self.shared.drain(&mut self.in_flight).await;
        while self.chores.join_next().await.is_some() {}
    }
}

/// How long to wait after a query of this duration that found nothing. Copies that wait for a store that is down are
/// read again by every query, and there can be millions of them; the pause limits the load on the database. The
/// recovery of a store ends the wait.
pub(crate) fn idle_wait(usual: Duration, is_out: bool, looked: Duration) -> Duration {
    if is_out { usual.max(looked * 10) } else { usual }
}

/// The work that follows a run: evictions, and a snapshot of the catalogue.
async fn after_run(context: Context, worker: WorkerId, stop: CancellationToken) {
    jobs::housekeeping(context.clone(), worker, stop.clone()).await;
    jobs::catalog(context, stop).await;
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
        "run ended"
    );
}
