//! A database with a number of files, and one measurement of each operation on it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, ensure};
use nightferry_core::context::Context;
use nightferry_core::db::migrate::{NameSearch, ensure_name_search};
use nightferry_core::ids::{RunId, UserId, WorkerId};
use nightferry_core::services::Services;
use nightferry_scale::api::Api;
use nightferry_scale::operations;
use nightferry_scale::rows::{self, Kind};

use super::statements::{self, Slow};
use crate::sql;
use crate::world::{World, open};

/// New files of each plan.
pub(super) const NEW: i64 = 2_000;
/// Copies of each claim and commit.
const BATCH: usize = 10;

/// A measured operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Plan,
    Claim,
    Commit,
    FirstPage,
    Search,
    SearchOfLargest,
    Status,
    Metrics,
    EvictByRule,
    EvictLeastUsed,
    Cancel,
    DrainProgress,
}

/// One measurement.
pub(super) struct Timed {
    pub(super) took: Duration,
    /// Of the statements sent meanwhile.
    pub(super) slowest: Option<Slow>,
}

/// Measures an operation, and returns its result.
async fn timed<T, E: Into<Error>>(act: impl Future<Output = Result<T, E>>) -> Result<(Timed, T)> {
    statements::take();
    let start = Instant::now();
    let value = act.await.map_err(Into::<Error>::into)?;
    Ok((Timed { took: start.elapsed(), slowest: statements::take() }, value))
}

/// A database with files.
pub(super) struct Installation {
    settings: Vec<(String, String)>,
    url: String,
    context: Context,
    /// A fifth of all files.
    largest: UserId,
    /// At most 2,000 files.
    small: UserId,
    /// Number of files at first.
    files: i64,
    /// Number of the next file.
    next: i64,
    /// The active run.
    run: RunId,
    worker: WorkerId,
}

impl Installation {
    /// Makes a database with this number of synced files.
    pub(super) async fn with_files(world: &World, database: &str, files: u32) -> Result<Self> {
        let files = i64::from(files);
        let (_, largest) = world.install(database, "scale").await?;
        let mut settings = world.settings(database, "scale");
        // A slow statement is to be measured, not aborted.
        settings.push(("database.statement_timeout".to_owned(), "15m".to_owned()));
        settings.push(("server.port".to_owned(), "0".to_owned()));
        let url = world.database_url(database);
        let mut statements = rows::in_bulk(rows::files(largest, Kind::Settled, 1, files));
        statements.extend(rows::settle());
        sql::run(&url, &statements).await?;
        let context = open(settings.clone())?;
        // As `nightferry migrate` builds it.
        if let NameSearch::Unindexed(reason) = ensure_name_search(&context.db).await? {
            println!("  searches by a part of a name have no index: {reason}");
        }
        let small = format!("SELECT id::text AS text FROM users WHERE email = '{}'", rows::SMALL_ACCOUNT);
        let small = sql::text(&url, &small).await?.parse()?;
        Ok(Self {
            context,
            settings,
            url,
            largest,
            small: UserId(small),
            files,
            next: files + 1,
            run: RunId::new(),
            worker: WorkerId::new(),
        })
    }

    /// Starts a run with as many queued copies of further files as a tenth of the files.
    pub(super) async fn queue(&mut self) -> Result<()> {
        let run = operations::request(&self.context).await?.id;
        let first = self.next;
        self.next += self.files / 10;
        let mut statements = rows::files(self.largest, Kind::Queued(run), first, self.next - 1);
        statements.push(rows::start(run));
        statements.extend(rows::settle());
        sql::run(&self.url, &statements).await?;
        self.run = run;
        Ok(())
    }

    /// Starts draining the local store.
    pub(super) async fn begin_drain(&self) -> Result<Duration> {
        let (timed, ()) = timed(operations::begin_drain(&self.context)).await?;
        Ok(timed.took)
    }

    /// Performs an operation once.
    pub(super) async fn perform(&mut self, operation: Operation) -> Result<Timed> {
        let context = &self.context;
        match operation {
            Operation::Plan => self.plan().await,
            Operation::Claim => Ok(self.claim_and_commit().await?.0),
            Operation::Commit => Ok(self.claim_and_commit().await?.1),
            Operation::FirstPage => self.page(self.largest, None).await,
            Operation::Search => self.page(self.small, Some(rows::IN_SMALL_ACCOUNT)).await,
            Operation::SearchOfLargest => self.page(self.largest, Some(rows::IN_LARGEST_ACCOUNT)).await,
            Operation::Status => Ok(timed(operations::sync_status(context)).await?.0),
            Operation::Metrics => self.metrics().await,
            Operation::EvictByRule => self.evict_candidates(false).await,
            Operation::EvictLeastUsed => self.evict_candidates(true).await,
            Operation::Cancel => self.cancel().await,
            Operation::DrainProgress => {
                let (timed, left) = timed(operations::drain_progress(context)).await?;
                ensure!(left > 0, "nothing is left in the drained store");
                Ok(timed)
            }
        }
    }

    /// Plans a run of new files. Its copies are then made, as far as the database sees them.
    async fn plan(&mut self) -> Result<Timed> {
        let first = self.next;
        self.next += NEW;
        sql::run(&self.url, &rows::files(self.largest, Kind::New, first, self.next - 1)).await?;
        operations::request(&self.context).await?;
        let (timed, run) = timed(operations::plan(&self.context)).await?;
        let run = run.context("the run was not planned")?;
        ensure!(run.files_total == NEW, "{} files were planned", run.files_total);
        operations::make_all_copies(&self.context, run.id).await?;
        Ok(timed)
    }

    async fn claim_and_commit(&self) -> Result<(Timed, Timed)> {
        let (claimed, claims) = timed(operations::claim(&self.context, self.run, self.worker, BATCH)).await?;
        ensure!(claims.len() == BATCH, "{} copies were claimed instead of {BATCH}", claims.len());
        let copies = operations::finished(claims);
        let (committed, count) = timed(operations::commit(&self.context, &copies)).await?;
        ensure!(count == copies.len(), "some copies were not committed");
        Ok((claimed, committed))
    }

    async fn page(&self, owner: UserId, part: Option<&str>) -> Result<Timed> {
        let (timed, found) = timed(operations::first_page(&self.context, owner, part)).await?;
        ensure!(found > 0 && (found == 1) == part.is_some(), "{found} files were found");
        Ok(timed)
    }

    /// Of an API of its own, because the counts are reused for a while.
    async fn metrics(&self) -> Result<Timed> {
        let api = Api::start(Services::of(open(self.settings.clone())?)?)?;
        api.get("/health").await?;
        let measured = timed(api.get("/metrics")).await;
        api.stop().await?;
        let (timed, text) = measured?;
        ensure!(text.contains("nightferry_database_up 1"), "the metrics were not counted in time");
        Ok(timed)
    }

    async fn evict_candidates(&self, least_used: bool) -> Result<Timed> {
        let (timed, found) = timed(operations::evict_candidates(&self.context, least_used)).await?;
        ensure!(found > 0, "no copy can be evicted");
        Ok(timed)
    }

    /// Cancels the run, and puts what was queued into another one.
    async fn cancel(&mut self) -> Result<Timed> {
        let (timed, _) = timed(operations::cancel(&self.context, self.run)).await?;
        operations::end(&self.context, self.run).await?;
        let run = operations::request(&self.context).await?.id;
        sql::run(&self.url, &rows::queue_again(run)).await?;
        self.run = run;
        Ok(timed)
    }
}
