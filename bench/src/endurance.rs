//! Long runs: whether memory use, rate and database work per file stay constant from the first quarter of a run to its
//! last.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nightferry_core::db::enums::RunStatus;

use crate::args::Args;
use crate::proc;
use crate::report::{Goal, Report};
use crate::sql::{self, Work};
use crate::stats::{mebibytes, seconds};
use crate::subject::Subject;
use crate::sync::{carry_over, seed, wait_for_worker};
use crate::world::{World, open};
use crate::{KIB, MIB};

/// Sampling interval of a run.
const EVERY: Duration = Duration::from_millis(500);

/// The files to copy.
pub(crate) struct Load {
    /// Short name, also used for the database.
    pub(crate) name: &'static str,
    /// Title for the report.
    pub(crate) title: String,
    /// Number of files.
    pub(crate) files: u32,
    /// Size of each file, in bytes.
    pub(crate) size: u64,
    /// Whether there are enough files to distinguish the database work for them from that of the heartbeats.
    pub(crate) counts_statements: bool,
}

impl Load {
    /// A rate, in a unit that suits the size of the files.
    fn speed(&self, files: f64) -> String {
        match self.size / MIB {
            0 => format!("{files:.0} files/s"),
            mebibytes => format!("{:.0} MiB/s", files * number(mebibytes)),
        }
    }
}

/// A sample of a run.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Duration,
    /// Bytes that have arrived; of objects in progress, the finished parts.
    done: u64,
    peak_kib: u64,
    work: Work,
}

/// Measures a long run.
pub(crate) async fn run(world: &World, args: &Args, load: &Load, report: &mut Report) -> Result<()> {
    let Load { name, title, files, .. } = load;
    eprintln!("long run of {title}");
    let bucket = name.replace('_', "-");
    let (context, user) = world.install(name, &bucket).await?;
    seed(&context, user, args.scaled(*files), load.size).await?;
    drop(context);
    sql::run(&world.database_url(name), &["VACUUM ANALYZE"]).await?;

    let settings = world.settings(name, &bucket);
    let context = open(settings.clone())?;
    let mut worker = Subject::start("worker", &settings, world.folder())?;
    wait_for_worker(&mut worker, &world.database_url(name)).await?;
    let (pid, samples) = (worker.pid, Mutex::new(Vec::new()));
    let ended = tokio::select! {
        ended = carry_over(&context, &mut worker) => ended?,
        failed = watch(world, name, pid, &samples) => return failed,
    };
    let files = args.scaled(*files);
    ensure!(ended.status == RunStatus::Succeeded && ended.files_done == i64::from(files), "{ended:?}");
    let samples = samples.into_inner().unwrap_or_default();
    let peak = worker.peak_memory_kib()?;
    worker.stop().await?;
    conclude(load, files, &samples, peak, report)
}

/// Samples the run periodically, forever.
async fn watch(world: &World, name: &str, pid: u32, samples: &Mutex<Vec<Sample>>) -> Result<()> {
    let start = Instant::now();
    let done = "SELECT (coalesce(max(bytes_done), 0) + (SELECT coalesce(sum(size), 0) FROM transfer_parts))::text AS text
        FROM runs";
    loop {
        let sample = Sample {
            done: sql::text(&world.database_url(name), done).await?.parse()?,
            at: start.elapsed(),
            peak_kib: proc::peak_memory_kib(pid)?,
            work: sql::work(world.maintenance_url(), name).await?,
        };
        if let Ok(mut samples) = samples.lock() {
            samples.push(sample);
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn conclude(load: &Load, files: u32, samples: &[Sample], peak: u64, report: &mut Report) -> Result<()> {
    let title = &load.title;
    let all = u64::from(files) * load.size;
    let reached = |bytes: u64| {
        let sample = samples.iter().find(|sample| sample.done >= bytes);
        sample.copied().context("the run was too short to be sampled")
    };
    let begun =
        samples.iter().rev().find(|sample| sample.done == 0).copied().context("the run started too early")?;
    let (quarter, three) = (reached(all / 4)?, reached(all / 4 * 3)?);
    let last = samples.last().copied().context("the run was too short")?;
    let files_done = |from: Sample, to: Sample| {
        number(to.done.saturating_sub(from.done) / KIB) / number(load.size / KIB).max(f64::MIN_POSITIVE)
    };
    let rate = |from: Sample, to: Sample| {
        files_done(from, to) / (to.at.saturating_sub(from.at)).as_secs_f64().max(1e-9)
    };
    let (first, end) = (rate(begun, quarter), rate(three, last));
    report.compare(
        &format!("rate of the last quarter, {title}"),
        load.speed(end),
        format!("first quarter: {}", load.speed(first)),
        (end / first, format!("**{:.2}**", end / first)),
        Goal::AtLeast(0.8),
    );
    let grown = number(peak) / number(quarter.peak_kib);
    report.compare(
        &format!("peak memory of the worker, {title}"),
        mebibytes(peak),
        format!("after a quarter: {}", mebibytes(quarter.peak_kib)),
        (grown, format!("**{grown:.2}**")),
        Goal::AtMost(1.25),
    );
    let each = |from: Sample, to: Sample| {
        (to.work.active_ms - from.work.active_ms) / files_done(from, to).max(f64::MIN_POSITIVE)
    };
    let (first, end) = (each(begun, quarter), each(three, last));
    if load.counts_statements {
        report.compare(
            &format!("Postgres statement time per file, {title}"),
            format!("{end:.3} ms"),
            format!("first quarter: {first:.3} ms"),
            (end / first, format!("**{:.2}**", end / first)),
            Goal::AtMost(1.3),
        );
    }
    let took = last.at.saturating_sub(begun.at);
    report.note(format!(
        "{title}: {} in total, {first:.2} ms of statements per file in the first quarter",
        seconds(took)
    ));
    Ok(())
}

/// A number of KiB or MiB, or any number of up to 32 bits, as a float.
fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}
