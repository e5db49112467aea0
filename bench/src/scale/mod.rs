//! Whether the duration of operations depends on the number of files: the same ones in a small and in a large catalogue, by
//! calling the functions that the API, the worker and the command line call.

mod installation;
mod statements;

use std::time::{Duration, Instant};

use anyhow::Result;

use self::installation::{Installation, NEW, Operation};
use self::statements::Slow;
use crate::args::Args;
use crate::proc;
use crate::quiet::Quiet;
use crate::report::{Goal, Report};
use crate::stats::{mebibytes, median, seconds, speedup};
use crate::world::World;

/// Files of the small catalogue.
const FEW: u32 = 100_000;
/// By how much an operation may take longer with many files.
const MAX_RATIO: f64 = 1.5;
/// A smaller difference is not judged: it is within the noise of a fast operation.
const FLOOR: Duration = Duration::from_millis(2);
/// No statement may take longer.
const MAX_STATEMENT: Duration = Duration::from_secs(1);
/// By how much the resident memory of this process may grow.
const MAX_GROWTH_KIB: u64 = 32 * 1024;
/// Length of a statement in the report.
const SHOWN: usize = 120;

/// The operations while a tenth of the files is queued.
const QUEUED: [Operation; 10] = [
    Operation::Claim,
    Operation::Commit,
    Operation::FirstPage,
    Operation::Search,
    Operation::SearchOfLargest,
    Operation::Status,
    Operation::Metrics,
    Operation::EvictByRule,
    Operation::EvictLeastUsed,
    Operation::Cancel,
];

impl Operation {
    fn title(self, files: u32) -> String {
        match self {
            Self::Plan => format!("plan of {NEW} new files"),
            Self::Claim => "claim of 10 copies".to_owned(),
            Self::Commit => "commit of 10 copies".to_owned(),
            Self::FirstPage => "first page of the largest account".to_owned(),
            Self::Search => "search in an account of 2,000 files".to_owned(),
            Self::SearchOfLargest => "search in the largest account, a fifth of all files".to_owned(),
            Self::Status => "`sync status`".to_owned(),
            Self::Metrics => "`/metrics`".to_owned(),
            Self::EvictByRule => "candidates of an eviction by rule".to_owned(),
            Self::EvictLeastUsed => "candidates of an eviction by watermark".to_owned(),
            Self::Cancel => format!("cancel of a run with {} queued copies", files / 10),
            Self::DrainProgress => "progress of a drain".to_owned(),
        }
    }

    /// Measurements per catalogue, and of those before them that only fill the caches.
    const fn rounds(self) -> (usize, usize) {
        match self {
            Self::Claim | Self::Commit => (100, 10),
            Self::FirstPage | Self::Search => (50, 5),
            Self::EvictByRule | Self::EvictLeastUsed => (20, 2),
            Self::Plan | Self::SearchOfLargest | Self::Status | Self::Metrics | Self::DrainProgress => (5, 1),
            // What was queued has to be queued again each time.
            Self::Cancel => (3, 0),
        }
    }
}

/// The measurements of an operation in one catalogue.
#[derive(Debug, Default)]
struct Side {
    times: Vec<Duration>,
    slowest: Option<Slow>,
}

/// Measures all operations.
pub(crate) async fn run(world: &World, args: &Args, quiet: &mut Quiet, report: &mut Report) -> Result<()> {
    statements::watch()?;
    let files = args.files;
    eprintln!("operations with {files} and with {FEW} files: filling two databases");
    let began = Instant::now();
    let mut both = [
        Installation::with_files(world, "scale_few", FEW).await?,
        Installation::with_files(world, "scale_many", files).await?,
    ];
    report.note(format!("both databases were filled in {}", seconds(began.elapsed())));
    // What the first API of a process allocates for its lifetime is not growth.
    let [few, _] = &mut both;
    few.perform(Operation::Metrics).await?;
    let before = proc::resident_memory_kib(std::process::id())?;

    let mut slowest = Vec::new();
    slowest.extend(compare(Operation::Plan, files, &mut both, quiet, report).await?);
    for installation in &mut both {
        installation.queue().await?;
    }
    for operation in QUEUED {
        slowest.extend(compare(operation, files, &mut both, quiet, report).await?);
    }
    let mut drain_times = Vec::new();
    for installation in &both {
        drain_times.push(millis(installation.begin_drain().await?));
    }
    report.note(format!(
        "starting a drain, with {FEW} and with {files} files, takes {}",
        drain_times.join(" and ")
    ));
    slowest.extend(compare(Operation::DrainProgress, files, &mut both, quiet, report).await?);

    if let Some(slow) = slowest.into_iter().max_by_key(|slow| slow.took) {
        let ratio = slow.took.as_secs_f64() / MAX_STATEMENT.as_secs_f64();
        report.compare(
            &format!("slowest statement, {files} files"),
            millis(slow.took),
            format!("limit: {}", millis(MAX_STATEMENT)),
            (ratio, format!("**{ratio:.2}**")),
            Goal::AtMost(1.0),
        );
    }
    let after = proc::resident_memory_kib(std::process::id())?;
    let ratio = float(after) / float(before + MAX_GROWTH_KIB);
    report.compare(
        "resident memory after all operations",
        mebibytes(after),
        format!("before them: {}, and {} more", mebibytes(before), mebibytes(MAX_GROWTH_KIB)),
        (ratio, format!("**{ratio:.2}**")),
        Goal::AtMost(1.0),
    );
    Ok(())
}

/// Measures one operation in both catalogues, alternately. Returns its slowest statement with many files.
async fn compare(
    operation: Operation,
    files: u32,
    both: &mut [Installation; 2],
    quiet: &mut Quiet,
    report: &mut Report,
) -> Result<Option<Slow>> {
    let [few, many] = quiet
        .measure(async || {
            let (rounds, warm_up) = operation.rounds();
            let mut sides = [Side::default(), Side::default()];
            for round in 0..rounds + warm_up {
                for (installation, side) in both.iter_mut().zip(&mut sides) {
                    let timed = installation.perform(operation).await?;
                    if round >= warm_up {
                        side.times.push(timed.took);
                        side.slowest = slower(side.slowest.take(), timed.slowest);
                    }
                }
            }
            Ok(sides)
        })
        .await?;
    let (slow, fast) = (median(&many.times), median(&few.times));
    let ratio = speedup(fast, slow);
    let is_noise = ratio > MAX_RATIO && slow.saturating_sub(fast) < FLOOR;
    let shown = if is_noise {
        format!("**{ratio:.2}** (not judged: less than {} more)", millis(FLOOR))
    } else {
        format!("**{ratio:.2}**")
    };
    report.compare(
        &format!("{}, {files} files", operation.title(files)),
        millis(slow),
        format!("{FEW} files: {}", millis(fast)),
        (if is_noise { MAX_RATIO } else { ratio }, shown),
        Goal::AtMost(MAX_RATIO),
    );
    if let Some(slow) = &many.slowest {
        let sql: String = slow.sql.chars().take(SHOWN).collect();
        report.note(format!(
            "{}: the slowest statement takes {}: `{sql}…`",
            operation.title(files),
            millis(slow.took)
        ));
    }
    Ok(many.slowest)
}

fn slower(one: Option<Slow>, other: Option<Slow>) -> Option<Slow> {
    one.into_iter().chain(other).max_by_key(|slow| slow.took)
}

fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

fn float(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX))
}
