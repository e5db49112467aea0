//! Planning new files among many and among few existing ones, by calling the planning function of runs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use diesel_async::AsyncConnection as _;
use nightferry_core::context::Context;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::RunTrigger;
use nightferry_core::db::replicas::{self, Until};
use nightferry_core::db::runs::{NewRun, RunScope};
use nightferry_core::error::Error;
use nightferry_core::ids::{RunId, UserId};
use nightferry_core::tiering::{policy, run};
use nightferry_scale::rows::{self, Kind};

use crate::args::Args;
use crate::quiet::Quiet;
use crate::report::{Goal, Report};
use crate::sql;
use crate::stats::{median, speedup};
use crate::world::{World, open};

const MANY: u32 = 1_000_000;
const FEW: u32 = 10_000;
const NEW: u32 = 2_000;
const ROUNDS: u32 = 9;

/// One rule of each kind that has a cost: by age, by type, by folder.
const RULES: [(&str, &str); 7] = [
    ("policy.rules.1.name", "old"),
    ("policy.rules.1.older_than", "30d"),
    ("policy.rules.2.name", "videos"),
    ("policy.rules.2.content_type", "video/*"),
    ("policy.rules.2.priority", "5"),
    ("policy.rules.3.name", "projects"),
    ("policy.rules.3.path", "/projects/**"),
];

/// A database with synced files and some unsynced ones.
struct Catalogue {
    plain: Context,
    /// Plans with rules.
    ruled: Context,
    run: RunId,
    by_default: Vec<Duration>,
    by_rules: Vec<Duration>,
}

/// Measures plans.
pub(crate) async fn run(world: &World, args: &Args, quiet: &mut Quiet, report: &mut Report) -> Result<()> {
    let (many, few) = (args.scaled(MANY), FEW);
    eprintln!("plans of {NEW} new files among {many} and among {few}: filling two databases");
    let mut both = [prepare(world, "plan_many", many).await?, prepare(world, "plan_few", few).await?];
    let [(many_default, many_rules), (few_default, few_rules)] = quiet
        .measure(async || {
            for catalogue in &mut both {
                catalogue.by_default.clear();
                catalogue.by_rules.clear();
            }
            // The first plans fill the caches.
            for round in 0..ROUNDS + 2 {
                for catalogue in &mut both {
                    catalogue.one(round >= 2).await?;
                }
            }
            Ok(both.each_ref().map(|one| (one.by_default.clone(), one.by_rules.clone())))
        })
        .await?;
    for (how, slow, fast) in [("default", many_default, few_default), ("three rules", many_rules, few_rules)]
    {
        let (slow, fast) = (median(&slow), median(&fast));
        let ratio = speedup(fast, slow);
        report.compare(
            &format!("plan of {NEW} new files by {how}, {many} files"),
            millis(slow),
            format!("{few} files: {}", millis(fast)),
            (ratio, format!("**{ratio:.2}**")),
            Goal::AtMost(1.5),
        );
    }
    Ok(())
}

async fn prepare(world: &World, database: &str, count: u32) -> Result<Catalogue> {
    let (plain, user) = world.install(database, "plans").await?;
    let mut settings = world.settings(database, "plans");
    settings.extend(RULES.map(|(key, value)| (key.to_owned(), value.to_owned())));
    let ruled = open(settings)?;
    let new = NewRun { trigger: RunTrigger::Cli, requested_by: None, tick: None, scope: RunScope::default() };
    let requested = run::request(&plain, new, &Origin::default()).await?;
    fill(&world.database_url(database), user, count).await?;
    Ok(Catalogue { plain, ruled, run: requested.id, by_default: Vec::new(), by_rules: Vec::new() })
}

/// Synced files, followed by the new ones.
async fn fill(url: &str, user: UserId, count: u32) -> Result<()> {
    let count = i64::from(count);
    let mut files = rows::files(user, Kind::Settled, 1, count);
    files.extend(rows::files(user, Kind::New, count + 1, count + i64::from(NEW)));
    let mut statements = rows::in_bulk(files);
    statements.extend(rows::settle());
    sql::run(url, &statements).await
}

impl Catalogue {
    /// Makes a plan in both ways, and rolls it back.
    async fn one(&mut self, counts: bool) -> Result<()> {
        let (by_default, by_rules) = (plan(&self.plain, self.run).await?, plan(&self.ruled, self.run).await?);
        if counts {
            self.by_default.push(by_default);
            self.by_rules.push(by_rules);
        }
        Ok(())
    }
}

async fn plan(context: &Context, run: RunId) -> Result<Duration> {
    let policy = policy::of(context)?;
    let mut conn = context.db.conn().await?;
    let (mut files, mut took) = (0, Duration::ZERO);
    let undone = conn
        .transaction(async |conn| {
            let start = Instant::now();
            let planned = replicas::plan_until(conn, run, &policy, &RunScope::default(), Until::Now).await?;
            (files, took) = (planned.files, start.elapsed());
            Err::<(), _>(Error::Internal("rolled back".to_owned()))
        })
        .await;
    ensure!(undone.is_err() && files == i64::from(NEW), "{files} files were planned: {undone:?}");
    Ok(took)
}

fn millis(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
