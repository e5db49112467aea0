//! Claiming a batch with a long and with a short queue, by calling the function of the worker.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use nightferry_core::context::Context;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::RunTrigger;
use nightferry_core::db::replicas::{self, ClaimTerms};
use nightferry_core::db::runs::{NewRun, RunScope};
use nightferry_core::ids::{RunId, UserId, WorkerId};
use nightferry_core::tiering::run;
use nightferry_scale::operations;
use nightferry_scale::rows::{self, Kind};

use crate::args::Args;
use crate::quiet::Quiet;
use crate::report::{Goal, Report};
use crate::sql;
use crate::stats::{median, percentile, speedup};
use crate::world::World;

const LONG: u32 = 1_000_000;
const SHORT: u32 = 10_000;
const BATCH: i64 = 10;
/// Few enough for the short queue to last when a noisy measurement is repeated.
const CLAIMS: u32 = 200;
const LEASE: Duration = Duration::from_secs(600);

/// A database with a queue.
struct Queue {
    context: Context,
    run: RunId,
    worker: WorkerId,
    claims: Vec<Duration>,
    commits: Vec<Duration>,
}

/// Measures claims and commits.
pub(crate) async fn run(world: &World, args: &Args, quiet: &mut Quiet, report: &mut Report) -> Result<()> {
    let (long, short) = (args.scaled(LONG), SHORT);
    eprintln!("claims of {BATCH} with {long} and with {short} queued replicas: filling two databases");
    let mut queues = [prepare(world, "claim_long", long).await?, prepare(world, "claim_short", short).await?];
    let [(long_claim, long_commit), (short_claim, short_commit)] = quiet
        .measure(async || {
            for queue in &mut queues {
                queue.claims.clear();
                queue.commits.clear();
            }
            // The first claims on a connection prepare the statement and fill the caches.
            for round in 0..CLAIMS + 20 {
                for queue in &mut queues {
                    queue.one(round >= 20).await?;
                }
            }
            Ok(queues.each_ref().map(|queue| (queue.claims.clone(), queue.commits.clone())))
        })
        .await?;

    let (slow, fast) = (median(&long_claim), median(&short_claim));
    let ratio = speedup(fast, slow);
    report.compare(
        &format!("claim of a batch of {BATCH}, {long} replicas queued"),
        micros(slow),
        format!("{short} queued: {}", micros(fast)),
        (ratio, format!("**{ratio:.2}**")),
        Goal::AtMost(1.3),
    );
    let (slow, fast) = (median(&long_commit), median(&short_commit));
    report.note(format!(
        "committing such a batch takes {} and {} (ratio {:.2}); of 100 claims, 95 took at most {} and {}",
        micros(slow),
        micros(fast),
        speedup(fast, slow),
        micros(percentile(&long_claim, 95)),
        micros(percentile(&short_claim, 95)),
    ));
    Ok(())
}

async fn prepare(world: &World, database: &str, count: u32) -> Result<Queue> {
    let (context, user) = world.install(database, "claims").await?;
    let new = NewRun { trigger: RunTrigger::Cli, requested_by: None, tick: None, scope: RunScope::default() };
    let requested = run::request(&context, new, &Origin::default()).await?;
    let url = world.database_url(database);
    fill(&url, user, requested.id, count).await?;
    Ok(Queue { context, run: requested.id, worker: WorkerId::new(), claims: Vec::new(), commits: Vec::new() })
}

/// Inserts rows like those of uploads and a plan.
async fn fill(url: &str, user: UserId, run: RunId, count: u32) -> Result<()> {
    let mut statements = rows::in_bulk(rows::files(user, Kind::Queued(run), 1, i64::from(count)));
    statements.push(rows::start(run));
    statements.extend(rows::settle());
    sql::run(url, &statements).await
}

impl Queue {
    /// Claims a batch and commits it, as a worker does after copying.
    async fn one(&mut self, counts: bool) -> Result<()> {
        let mut conn = self.context.db.conn().await?;
        let start = Instant::now();
        let terms = ClaimTerms { worker: self.worker, limit: BATCH, lease: LEASE, down: &[], full: &[] };
        let batch = replicas::claim(&mut conn, self.run, terms).await?;
        let claimed = start.elapsed();
        ensure!(
            i64::try_from(batch.len())? == BATCH,
            "{} copies were claimed instead of {BATCH}",
            batch.len()
        );
        let finished = operations::finished(batch);
        let start = Instant::now();
        let switched = replicas::finish(&mut conn, &["minio"], &["s3"], &[], &finished).await?;
        let committed = start.elapsed();
        ensure!(switched.len() == finished.len(), "some copies were not committed");
        if counts {
            self.claims.push(claimed);
            self.commits.push(committed);
        }
        Ok(())
    }
}

fn micros(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}
