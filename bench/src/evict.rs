//! Whether the eviction of local copies, with a HEAD request for each cloud copy as evidence, keeps up with the sync that
//! made the cloud copies: on the loopback address, and with the cloud store behind a link with latency.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use chrono::Utc;
use nightferry_core::context::Context;
use nightferry_core::db::enums::{ReplicaState, RunStatus};
use nightferry_core::db::replicas;
use tokio::time::sleep;

use crate::args::Args;
use crate::quiet::{self, Quiet};
use crate::relay::{Link, Relay};
use crate::report::{Goal, Report};
use crate::stats::{median, seconds, speedup, spread};
use crate::subject::Subject;
use crate::sync::{between, carry_over, seed, wait_for_worker};
use crate::world::World;
use crate::{KIB, memory, rclone, sql};

const FILES: u32 = 10_000;
const SIZE: u64 = 16 * KIB;
const REPEAT: u32 = 3;
const LINK: Link = Link { round_trip: Duration::from_millis(40), rate: None };
/// The local store, in the database.
const LOCAL: &str = "minio";
/// A worker looks for copies to evict at each second of the clock that is a multiple of this.
const PASS_EVERY: u64 = 15;
/// A worker that evicts is not started later than this after such a second: it first has to find out what the stores
/// verify, without which copies would have to be read.
const START_WITHIN: u64 = 7;
const EVICTED_WITHIN: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_millis(20);

/// Where the cloud store is, and what was measured there.
struct Place<'r> {
    relay: Option<&'r Relay>,
    copied: Vec<Duration>,
    evicted: Vec<Duration>,
    peak_kib: u64,
}

/// A sync and the eviction that follows it.
#[derive(Debug, Clone, Copy)]
struct Times {
    copied: Duration,
    evicted: Duration,
    peak_kib: u64,
}

impl<'r> Place<'r> {
    const fn new(relay: Option<&'r Relay>) -> Self {
        Self { relay, copied: Vec::new(), evicted: Vec::new(), peak_kib: 0 }
    }

    fn title(&self) -> String {
        self.relay.map_or_else(|| "loopback".to_owned(), |relay| relay.link.to_string())
    }
}

/// Measures evictions.
pub(crate) async fn run(world: &World, args: &Args, quiet: &mut Quiet, report: &mut Report) -> Result<()> {
    let (files, repeat) = (args.scaled(FILES), args.repeat.unwrap_or(REPEAT));
    eprintln!("eviction of {files} local copies, {repeat} times in each place");
    let relay = Relay::start(&world.cloud().endpoint, LINK).await?;
    let mut places = [Place::new(None), Place::new(Some(&relay))];
    let mut number = 0;
    for _ in 0..repeat {
        for place in &mut places {
            let through = place.relay;
            let times = quiet
                .measure(async || {
                    number += 1;
                    measure(world, through, number, files).await
                })
                .await?;
            place.copied.push(times.copied);
            place.evicted.push(times.evicted);
            place.peak_kib = place.peak_kib.max(times.peak_kib);
        }
    }
    for place in &places {
        conclude(place, files, report);
    }
    Ok(())
}

/// Uploads files, syncs them with one worker, and evicts their local copies with another one: a new database and new
/// buckets, because an eviction leaves no local copies.
async fn measure(world: &World, through: Option<&Relay>, number: u32, files: u32) -> Result<Times> {
    let (database, bucket, local) =
        (format!("evict_{number}"), format!("evict-{number}"), format!("evict-local-{number}"));
    let mut settings = world.settings(&database, &bucket);
    settings.extend([
        setting("stores.minio.bucket", &local),
        setting("tiering.free_local_after", "0s"),
        // The worker that copies evicts nothing yet.
        setting("tiering.evict_grace", "1h"),
    ]);
    let (context, user) = world.install_with(&database, settings.clone()).await?;
    seed(&context, user, files, SIZE).await?;
    sql::run(&world.database_url(&database), &["VACUUM ANALYZE"]).await?;
    quiet::flush().await?;
    settings.extend(through.map(Relay::setting));

    let carried = through.map_or(0, Relay::carried);
    let mut worker = start(world, &database, &settings).await?;
    if let Some(relay) = through {
        relay.settle().await;
    }
    let run = carry_over(&context, &mut worker).await?;
    ensure!(run.status == RunStatus::Succeeded && run.files_done == i64::from(files), "{run:?}");
    let copied = between(run.started_at, run.finished_at);
    let mut peak_kib = worker.peak_memory_kib()?;
    worker.stop().await?;
    ensure!(
        through.is_none_or(|relay| relay.carried() - carried >= u64::from(files) * SIZE),
        "the copies did not pass the relay"
    );

    settings.push(setting("tiering.evict_grace", "0s"));
    stay_clear_of_a_pass().await?;
    let mut worker = start(world, &database, &settings).await?;
    let evicted = watch(&context, &mut worker, files).await?;
    peak_kib = peak_kib.max(worker.peak_memory_kib()?);
    worker.stop().await?;
    let left = rclone::size(&world.files(), world.local(), &local).await?;
    ensure!(left == (0, 0), "{left:?} files and bytes are left in the local store");
    let kept = rclone::size(&world.files(), world.cloud(), &bucket).await?;
    ensure!(kept == (u64::from(files), u64::from(files) * SIZE), "the cloud store has {kept:?}");
    Ok(Times { copied, evicted, peak_kib })
}

async fn start(world: &World, database: &str, settings: &[(String, String)]) -> Result<Subject> {
    let mut worker = Subject::start("worker", settings, world.folder())?;
    wait_for_worker(&mut worker, &world.database_url(database)).await?;
    Ok(worker)
}

/// Waits until the next pass of evictions is some seconds away.
async fn stay_clear_of_a_pass() -> Result<()> {
    let since = u64::try_from(Utc::now().timestamp())? % PASS_EVERY;
    if since > START_WITHIN {
        sleep(Duration::from_secs(PASS_EVERY - since)).await;
    }
    Ok(())
}

/// The duration from the last look before the first eviction to the first look after the last one.
async fn watch(context: &Context, worker: &mut Subject, files: u32) -> Result<Duration> {
    let (all, until) = (i64::from(files), Instant::now() + EVICTED_WITHIN);
    let (mut begun_at, mut looked_at) = (None, Instant::now());
    let (before, _) = local_copies(context).await?;
    ensure!(
        before == all,
        "the eviction began before the worker was ready: {before} local copies are present"
    );
    loop {
        ensure!(Instant::now() < until, "the copies were not evicted within {} s", EVICTED_WITHIN.as_secs());
        worker.alive()?;
        let now = Instant::now();
        let (present, rows) = local_copies(context).await?;
        if present < all && begun_at.is_none() {
            begun_at = Some(looked_at);
        }
        if rows == 0 {
            let begun_at = begun_at.context("the eviction had no beginning")?;
            return Ok(begun_at.elapsed());
        }
        looked_at = now;
        sleep(POLL).await;
    }
}

/// The number of local copies that are present, and of all, including those that are being evicted.
async fn local_copies(context: &Context) -> Result<(i64, i64)> {
    let mut conn = context.db.conn().await?;
    let counts = replicas::count_by_state(&mut conn).await?;
    let local = counts.iter().filter(|count| count.store == LOCAL);
    Ok(local.fold((0, 0), |(present, all), count| {
        let is_present = count.state == ReplicaState::Present;
        (if is_present { present + count.replicas } else { present }, all + count.replicas)
    }))
}

fn conclude(place: &Place<'_>, files: u32, report: &mut Report) {
    let title = format!("eviction of {files} local copies of 16 KiB, {}", place.title());
    let (copied, evicted) = (median(&place.copied), median(&place.evicted));
    let rate = |took: Duration| format!("{:.0} files/s", f64::from(files) / took.as_secs_f64().max(1e-9));
    let ratio = speedup(evicted, copied);
    let (low, high) = spread(&place.evicted, &place.copied);
    report.compare(
        &title,
        rate(evicted),
        format!("their sync: {}", rate(copied)),
        (ratio, format!("**{ratio:.2}** ({low:.2} to {high:.2})")),
        Goal::AtLeast(1.0),
    );
    memory::judge(&format!("peak memory of the worker, {title}"), place.peak_kib, report);
    report.note(format!(
        "{title}: {} for the sync, {} for the eviction, each cloud copy confirmed by a HEAD request",
        seconds(copied),
        seconds(evicted),
    ));
}

fn setting(key: &str, value: &str) -> (String, String) {
    (key.to_owned(), value.to_owned())
}
