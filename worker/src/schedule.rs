//! The scheduler of the worker: tokio-cron-scheduler ticks, and due runs are computed from the last tick stored in
//! Postgres, so that exactly one worker takes each tick, and none is lost while all workers were down.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use nightferry_core::context::Context;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::claim::Identity;
use nightferry_core::tiering::relocate::Kind;
use nightferry_core::tiering::run;
use nightferry_core::tiering::schedule::Ticks;
use tokio::sync::Mutex;
use tokio_cron_scheduler::{Job, JobScheduler};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::jobs::{self, Pace};
use crate::wake::Wake;

/// Checks whether a tick of a schedule is due. Costs no query until one is.
const EVERY_SECOND: &str = "* * * * * *";
/// Cleans up after crashes, evicts according to the policy, and writes a snapshot if one is due.
const HOUSEKEEPING: &str = "*/15 * * * * *";
/// Deletes expired rows.
const HOURLY: &str = "0 7 * * * *";

/// The running scheduler.
pub(crate) struct Ticker {
    scheduler: JobScheduler,
    tasks: TaskTracker,
    shared: Shared,
}

/// The state shared by all jobs.
#[derive(Clone)]
struct Shared {
    context: Context,
    worker: WorkerId,
    stop: CancellationToken,
}

/// Starts the scheduler.
pub(crate) async fn start(
    context: &Context,
    wake: &Wake,
    identity: &Identity,
    shutdown: &CancellationToken,
) -> Result<Ticker> {
    let shared = Shared { context: context.clone(), worker: identity.id, stop: shutdown.clone() };
    let scheduler = JobScheduler::new().await.context("cannot create the scheduler")?;
    let ticker = Ticker { scheduler, tasks: TaskTracker::new(), shared };
    let (wake, ticks) = (wake.clone(), Arc::<Mutex<Ticks>>::default());
    ticker.add(EVERY_SECOND, move |it| tick(it.context, wake.clone(), ticks.clone())).await?;
    ticker.add(HOUSEKEEPING, |it| jobs::housekeeping(it.context, it.worker, it.stop)).await?;
    ticker.add(HOUSEKEEPING, |it| jobs::catalog(it.context, it.stop)).await?;
    let ticks = Arc::<Mutex<Ticks>>::default();
    ticker.add(EVERY_SECOND, move |it| jobs::reconcile(it.context, ticks.clone(), it.stop)).await?;
    let ticks = Arc::<Mutex<Ticks>>::default();
    ticker.add(EVERY_SECOND, move |it| jobs::scrub(it.context, ticks.clone(), it.stop)).await?;
    ticker.add(EVERY_SECOND, |it| jobs::archive(it.context)).await?;
    for kind in [Kind::Drain, Kind::Rebalance] {
        let pace = Arc::<Mutex<Pace>>::default();
        let relocate = move |it: Shared| jobs::relocate(it.context, kind, it.worker, pace.clone(), it.stop);
        ticker.add(EVERY_SECOND, relocate).await?;
    }
    ticker.add(HOURLY, |it| jobs::expired_rows(it.context)).await?;
    ticker.scheduler.start().await.context("cannot start the scheduler")?;
    Ok(ticker)
}

async fn tick(context: Context, wake: Wake, ticks: Arc<Mutex<Ticks>>) {
    match run::take_due_tick(&context, &mut *ticks.lock().await).await {
        Ok(true) => wake.ring(),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "cannot read the schedule; retrying"),
    }
}

impl Ticker {
    /// Adds a job that never overlaps itself: a tick that arrives while the job is running is dropped. So is one while
    /// the clock of this machine is wrong: other workers do what they share.
    async fn add<F, Fut>(&self, pattern: &str, work: F) -> Result<()>
    where
        F: Fn(Shared) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let busy = Arc::new(Mutex::new(()));
        let (tasks, shared) = (self.tasks.clone(), self.shared.clone());
        let job = Job::new(pattern, move |_, _| {
            if shared.stop.is_cancelled() || shared.context.clock.is_wrong() {
                return;
            }
            let Ok(busy) = busy.clone().try_lock_owned() else { return };
            let work = work(shared.clone());
            tasks.spawn(async move {
                let _busy = busy;
                work.await;
            });
        })
        .with_context(|| format!("{pattern} is not a valid schedule"))?;
        self.scheduler.add(job).await.context("cannot schedule a job")?;
        Ok(())
    }

    /// Stops ticking and waits for running jobs.
    pub(crate) async fn stop(mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::warn!(%error, "the scheduler did not stop cleanly");
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}
