//! The worker's clockwork: tokio-cron-scheduler ticks, and what is due is computed against the last tick that is
//! stored in Postgres, so that of all workers exactly one takes each tick and none is lost while all were down.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use nightferry_core::context::Context;
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

/// Looks whether a tick of a schedule is due. Costs no query until one is.
const EVERY_SECOND: &str = "* * * * * *";
/// Reaps what died half-way, frees what the policy allows, and writes a snapshot if one is due.
const HOUSEKEEPING: &str = "*/15 * * * * *";
/// Drops rows that only mattered for a while.
const HOURLY: &str = "0 7 * * * *";

/// The running clockwork.
pub(crate) struct Ticker {
    scheduler: JobScheduler,
    tasks: TaskTracker,
}

/// Starts the clockwork.
pub(crate) async fn start(
    context: &Context,
    wake: &Wake,
    identity: &Identity,
    shutdown: &CancellationToken,
) -> Result<Ticker> {
    let scheduler = JobScheduler::new().await.context("the scheduler could not be made")?;
    let tasks = TaskTracker::new();
    let ticks = Arc::new(Mutex::new(Ticks::default()));
    {
        let (context, wake) = (context.clone(), wake.clone());
        add(&scheduler, &tasks, shutdown, EVERY_SECOND, move || {
            tick(context.clone(), wake.clone(), ticks.clone())
        })
        .await?;
    }
    {
        let (context, worker, stop) = (context.clone(), identity.id, shutdown.clone());
        add(&scheduler, &tasks, shutdown, HOUSEKEEPING, move || {
            jobs::housekeeping(context.clone(), worker, stop.clone())
        })
        .await?;
    }
    {
        let (context, stop) = (context.clone(), shutdown.clone());
        add(&scheduler, &tasks, shutdown, HOUSEKEEPING, move || jobs::catalog(context.clone(), stop.clone()))
            .await?;
    }
    {
        let (context, stop) = (context.clone(), shutdown.clone());
        let ticks = Arc::new(Mutex::new(Ticks::default()));
        add(&scheduler, &tasks, shutdown, EVERY_SECOND, move || {
            jobs::reconcile(context.clone(), ticks.clone(), stop.clone())
        })
        .await?;
    }
    {
        let (context, stop) = (context.clone(), shutdown.clone());
        let ticks = Arc::new(Mutex::new(Ticks::default()));
        add(&scheduler, &tasks, shutdown, EVERY_SECOND, move || {
            jobs::scrub(context.clone(), ticks.clone(), stop.clone())
        })
        .await?;
    }
    {
        let context = context.clone();
        add(&scheduler, &tasks, shutdown, EVERY_SECOND, move || jobs::archive(context.clone())).await?;
    }
    for kind in [Kind::Drain, Kind::Rebalance] {
        let (context, worker, stop) = (context.clone(), identity.id, shutdown.clone());
        let pace = Arc::new(Mutex::new(Pace::default()));
        add(&scheduler, &tasks, shutdown, EVERY_SECOND, move || {
            jobs::relocate(context.clone(), kind, worker, pace.clone(), stop.clone())
        })
        .await?;
    }
    {
        let context = context.clone();
        add(&scheduler, &tasks, shutdown, HOURLY, move || jobs::expired_rows(context.clone())).await?;
    }
    scheduler.start().await.context("the scheduler could not be started")?;
    Ok(Ticker { scheduler, tasks })
}

/// Adds a job that never overlaps itself: a tick that comes while the last one still runs is dropped.
async fn add<F, Fut>(
    scheduler: &JobScheduler,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
    pattern: &str,
    work: F,
) -> Result<()>
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let busy = Arc::new(Mutex::new(()));
    let (tasks, shutdown) = (tasks.clone(), shutdown.clone());
    let job = Job::new(pattern, move |_, _| {
        if shutdown.is_cancelled() {
            return;
        }
        let Ok(busy) = busy.clone().try_lock_owned() else { return };
        let work = work();
        tasks.spawn(async move {
            let _busy = busy;
            work.await;
        });
    })
    .with_context(|| format!("the pattern {pattern} is not a schedule"))?;
    scheduler.add(job).await.context("a job could not be scheduled")?;
    Ok(())
}

async fn tick(context: Context, wake: Wake, ticks: Arc<Mutex<Ticks>>) {
    match run::take_due_tick(&context, &mut *ticks.lock().await).await {
        Ok(true) => wake.ring(),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "the schedule could not be read, trying again"),
    }
}

impl Ticker {
    /// Stops ticking and waits for the jobs that run.
    pub(crate) async fn stop(mut self) {
        if let Err(error) = self.scheduler.shutdown().await {
            tracing::warn!(%error, "the scheduler did not stop cleanly");
        }
        self.tasks.close();
        self.tasks.wait().await;
    }
}
