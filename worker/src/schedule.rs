//! The worker's clockwork: tokio-cron-scheduler ticks, and what is due is computed against the last tick that is
//! stored in Postgres, so that of all workers exactly one takes each tick and none is lost while all were down.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use chrono::{DateTime, Utc};
use nightferry_core::context::Context;
use nightferry_core::tiering::claim::Identity;
use nightferry_core::tiering::pass::Ticks;
use nightferry_core::tiering::run::{self, Tick};
use nightferry_core::tiering::schedule;
use tokio::sync::Mutex;
use tokio_cron_scheduler::{Job, JobScheduler};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::jobs::{self, DrainPace, RebalancePace};
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

/// What is known of the nightly schedule without asking the database.
#[derive(Debug, Default)]
struct Nightly {
    last: Option<DateTime<Utc>>,
    next: Option<DateTime<Utc>>,
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
    let nightly = Arc::new(Mutex::new(Nightly::default()));
    {
        let (context, wake) = (context.clone(), wake.clone());
        add(&scheduler, &tasks, shutdown, EVERY_SECOND, move || {
            tick(context.clone(), wake.clone(), nightly.clone())
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
    {
        let (context, worker, stop) = (context.clone(), identity.id, shutdown.clone());
        let pace = Arc::new(Mutex::new(DrainPace::default()));
        add(&scheduler, &tasks, shutdown, EVERY_SECOND, move || {
            jobs::drain(context.clone(), worker, pace.clone(), stop.clone())
        })
        .await?;
    }
    {
        let (context, worker, stop) = (context.clone(), identity.id, shutdown.clone());
        let pace = Arc::new(Mutex::new(RebalancePace::default()));
        add(&scheduler, &tasks, shutdown, EVERY_SECOND, move || {
            jobs::rebalance(context.clone(), worker, pace.clone(), stop.clone())
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

async fn tick(context: Context, wake: Wake, nightly: Arc<Mutex<Nightly>>) {
    let mut nightly = nightly.lock().await;
    let now = context.clock.now();
    if nightly.last.is_some() && nightly.next.is_none_or(|next| now < next) {
        return;
    }
    match take_due(&context, &mut nightly, now).await {
        Ok(true) => wake.ring(),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, "the schedule could not be read, trying again"),
    }
}

/// Takes the tick that is due, if there is one. Answers whether a run was made of it by us.
async fn take_due(
    context: &Context,
    nightly: &mut Nightly,
    now: DateTime<Utc>,
) -> nightferry_core::error::Result<bool> {
    let tiering = &context.config.tiering;
    let starting = nightly.last.is_none();
    let last = run::last_tick(context).await?;
    let mut made = false;
    if let Some(due) = schedule::due_tick(tiering, last, now)? {
        if starting && !tiering.catch_up {
            tracing::info!(target: "nightferry::sync", tick = %due, "a tick was missed while no worker was up, and is skipped");
            run::skip_tick(context, due).await?;
        } else {
            match run::request_tick(context, due).await? {
                Tick::Run(run) => {
                    tracing::info!(target: "nightferry::sync", run = %run.id, tick = %due, caught_up = starting, "a tick became a run");
                    made = true;
                }
                Tick::Taken => {}
                // Looked at again with the next second.
                Tick::NotYet => return Ok(false),
            }
        }
    }
    nightly.last = Some(now);
    nightly.next = schedule::next_tick(tiering, now)?;
    Ok(made)
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
