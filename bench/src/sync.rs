//! Store to store: a run of the worker against `rclone copy` of the same objects between the same servers, and over the
//! same link if there is one. Each repetition has a copy of the same database and a fresh bucket.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use chrono::{DateTime, Utc};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use nightferry_core::context::Context;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::{RunStatus, RunTrigger};
use nightferry_core::db::listen::{self, Listener};
use nightferry_core::db::runs::{self, NewRun, Run, RunScope};
use nightferry_core::file::Files;
use nightferry_core::file::list::FolderRef;
use nightferry_core::file::upload::{self, OnConflict, UploadRequest};
use nightferry_core::ids::UserId;
use nightferry_core::object::canary;
use nightferry_core::tiering::run;

use crate::args::Args;
use crate::quiet::Quiet;
use crate::rclone::{Flags, Remote};
use crate::relay::{Link, Relay};
use crate::report::{Goal, Report};
use crate::stats::{mebibytes, median, median_number, seconds};
use crate::subject::Subject;
use crate::transfers::conclude;
use crate::world::{Random, World, eventually, open};
use crate::{proc, rclone, sql};

const RUN_WITHIN: Duration = Duration::from_secs(1800);
const SEEDING_AT_ONCE: usize = 8;

/// Files of one size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileSet {
    /// Their number.
    pub(crate) count: u32,
    /// Size of each file, in bytes.
    pub(crate) size: u64,
}

/// A set of files to sync.
pub(crate) struct Workload {
    /// Short name, also used for the database.
    pub(crate) name: &'static str,
    /// Title for the report.
    pub(crate) title: String,
    /// The files.
    pub(crate) files: Vec<FileSet>,
    /// The link to the cloud store, if it is not reached directly.
    pub(crate) link: Option<Link>,
    /// Flags of rclone; the fastest ones are the baseline.
    pub(crate) flags: &'static [Flags],
    /// The minimum speed-up over rclone.
    pub(crate) goal: f64,
    /// Number of measurements per side.
    pub(crate) repeat: u32,
}

impl Workload {
    /// Number of files.
    fn count(&self) -> u32 {
        self.files.iter().map(|set| set.count).sum()
    }

    /// Bytes of all files.
    fn bytes(&self) -> u64 {
        self.files.iter().map(|set| u64::from(set.count) * set.size).sum()
    }
}

/// Where a workload is measured.
struct Field<'f> {
    world: &'f World,
    workload: &'f Workload,
    relay: Option<Relay>,
}

/// rclone with some flags, and its results.
struct Peer {
    flags: Flags,
    results: Vec<SyncResult>,
}

/// The cost of one sync.
#[derive(Debug, Clone, Copy)]
struct SyncResult {
    wall: Duration,
    cpu: Duration,
    stores_cpu: Duration,
    peak_kib: u64,
}

/// Results that exist only for Nightferry.
#[derive(Debug, Clone, Copy)]
struct RunDetails {
    from_request: Duration,
    postgres_cpu: Duration,
    work: sql::Work,
}

/// Measures one workload. Returns the largest peak memory of the worker, in KiB.
pub(crate) async fn run(
    world: &World,
    args: &Args,
    workload: &Workload,
    quiet: &mut Quiet,
    report: &mut Report,
) -> Result<u64> {
    let repeat = args.repeat.unwrap_or(workload.repeat);
    eprintln!("sync of {}, {repeat} times on each side", workload.title);
    prepare(world, workload).await?;
    let relay = match workload.link {
        Some(link) => Some(Relay::start(&world.cloud().endpoint, link).await?),
        None => None,
    };
    let field = Field { world, workload, relay };

    let (mut ours, mut details) = (Vec::new(), Vec::new());
    let mut peers: Vec<Peer> =
        workload.flags.iter().map(|&flags| Peer { flags, results: Vec::new() }).collect();
    let sides = peers.len() + 1;
    let mut number = 0;
    for round in 0..usize::try_from(repeat)? {
        // Each side is the first one in turn.
        for turn in (0..sides).map(|place| (place + round) % sides) {
            if let Some(peer) = turn.checked_sub(1).and_then(|index| peers.get_mut(index)) {
                let flags = peer.flags;
                let measure = async || {
                    number += 1;
                    measure_rclone(&field, flags, number).await
                };
                peer.results.push(quiet.measure(measure).await?);
            } else {
                let (result, more) = quiet
                    .measure(async || {
                        number += 1;
                        measure_nightferry(&field, number).await
                    })
                    .await?;
                ours.push(result);
                details.push(more);
            }
        }
    }
    let best = peers.iter().min_by_key(|peer| median(&walls(&peer.results)));
    let best = best.context("rclone was not measured")?;
    conclude(
        &format!("sync of {}", workload.title),
        &rclone::shown(best.flags),
        &walls(&ours),
        &walls(&best.results),
        Goal::AtLeast(workload.goal),
        report,
    );
    explain(workload, &ours, &peers, &details, report);
    Ok(ours.iter().map(|it| it.peak_kib).max().unwrap_or_default())
}

fn walls(results: &[SyncResult]) -> Vec<Duration> {
    results.iter().map(|it| it.wall).collect()
}

/// Makes the database from which each repetition of Nightferry gets a copy, and uploads the files.
async fn prepare(world: &World, workload: &Workload) -> Result<()> {
    let name = workload.name;
    let (context, user) = world.install(name, "seed").await?;
    seed_all(&context, user, &workload.files).await?;
    drop(context);
    sql::run(&world.database_url(name), &["VACUUM ANALYZE"]).await?;
    // A template must have no connections; those of this process close shortly after their pool.
    let lock = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false");
    let leave =
        format!("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{name}'");
    sql::run(world.maintenance_url(), &[&lock, &leave]).await
}

/// Uploads files of one size through the domain, so that rows and objects are those of real uploads.
pub(crate) async fn seed(context: &Context, user: UserId, count: u32, size: u64) -> Result<()> {
    seed_all(context, user, &[FileSet { count, size }]).await
}

async fn seed_all(context: &Context, user: UserId, sets: &[FileSet]) -> Result<()> {
    // Otherwise each upload would be read back.
    canary::send_first(context).await;
    let files = &Files::new(context.clone());
    let sizes = sets.iter().flat_map(|set| (0..set.count).map(move |_| set.size));
    let uploads = stream::iter((0_u32..).zip(sizes)).map(|(number, size)| async move {
        let request = UploadRequest {
            owner: user,
            folder: FolderRef::Root,
            filename: format!("file-{number:05}.bin"),
            content_type: None,
            on_conflict: OnConflict::Fail,
            sha256: None,
        };
        let mut body = Random::new(u64::from(number) + 1, size);
        upload::receive(files, request, &mut body).await
    });
    Ok(uploads.buffer_unordered(SEEDING_AT_ONCE).try_for_each(|_| async { Ok(()) }).await?)
}

/// Requests a run from a worker that is running and idle.
async fn measure_nightferry(field: &Field<'_>, number: u32) -> Result<(SyncResult, RunDetails)> {
    let Field { world, workload, relay } = field;
    let (database, bucket) =
        (format!("{}_{number}", workload.name), format!("{}-ours-{number}", workload.name));
    let make = format!("CREATE DATABASE {database} TEMPLATE {}", workload.name);
    sql::run(world.maintenance_url(), &[&make]).await?;
    let mut settings = world.settings(&database, &bucket);
    let context = open(settings.clone())?;
    context.stores.cloud()?.ensure_bucket().await?;
    settings.extend(relay.as_ref().map(Relay::setting));
    let mut worker = Subject::start("worker", &settings, world.folder())?;
    wait_for_worker(&mut worker, &world.database_url(&database)).await?;
    if let Some(relay) = relay {
        relay.settle().await;
    }

    let carried = field.carried();
    let cpu = worker.cpu()?;
    let stores = stores_cpu(world)?;
    let postgres = proc::cpu_of_tree(world.postgres_pid());
    let ended = carry_over(&context, &mut worker).await?;
    let result = SyncResult {
        wall: between(ended.started_at, ended.finished_at),
        cpu: worker.cpu()?.saturating_sub(cpu),
        stores_cpu: stores_cpu(world)?.saturating_sub(stores),
        peak_kib: worker.peak_memory_kib()?,
    };
    let postgres_cpu = proc::cpu_of_tree(world.postgres_pid()).saturating_sub(postgres);
    let expected = i64::from(workload.count());
    ensure!(
        ended.status == RunStatus::Succeeded && ended.files_done == expected && ended.files_failed == 0,
        "the run did not copy everything: {ended:?}"
    );
    worker.stop().await?;
    drop(context);
    field.check(&bucket, carried).await?;
    let work = sql::work(world.maintenance_url(), &database).await?;
    let from_request = between(Some(ended.created_at), ended.finished_at);
    Ok((result, RunDetails { from_request, postgres_cpu, work }))
}

/// Waits until a worker has sent a heartbeat and has become idle.
pub(crate) async fn wait_for_worker(worker: &mut Subject, database_url: &str) -> Result<()> {
    eventually("the worker sends a heartbeat", Duration::from_secs(30), async || {
        worker.alive()?;
        let up = sql::text(database_url, "SELECT count(*)::text AS text FROM workers").await?;
        Ok((up != "0").then_some(()))
    })
    .await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(())
}

/// Requests a run, as the CLI does, and waits for its end by notification: polling would add load to the database that
/// is part of neither side.
pub(crate) async fn carry_over(context: &Context, worker: &mut Subject) -> Result<Run> {
    let mut listener = Listener::open(&context.db, listen::RUNS).await?;
    let new = NewRun { trigger: RunTrigger::Cli, requested_by: None, tick: None, scope: RunScope::default() };
    let requested = run::request(context, new, &Origin::default()).await?;
    let until = Instant::now() + RUN_WITHIN;
    while Instant::now() < until {
        listener.wait(Duration::from_secs(5)).await?;
        worker.alive()?;
        let mut conn = context.db.conn().await?;
        if let Some(run) = runs::find(&mut conn, requested.id).await?.filter(|run| !run.status.is_active()) {
            return Ok(run);
        }
    }
    bail!("the run did not end within {} s", RUN_WITHIN.as_secs())
}

async fn measure_rclone(field: &Field<'_>, flags: Flags, number: u32) -> Result<SyncResult> {
    let Field { world, workload, relay } = field;
    let bucket = format!("{}-peer-{number}", workload.name);
    let context = open(world.settings("postgres", &bucket))?;
    context.stores.cloud()?.ensure_bucket().await?;
    let stores = stores_cpu(world)?;
    let (from, to) = (Remote::of(world.local(), &world.local().bucket), Remote::of(world.cloud(), &bucket));
    let (carried, start) = (field.carried(), Instant::now());
    let cost = rclone::copy(&world.files(), from, to.through(relay.as_ref()), flags).await?;
    ensure!(cost.wall <= start.elapsed(), "time runs backwards");
    let stores_cpu = stores_cpu(world)?.saturating_sub(stores);
    field.check(&bucket, carried).await?;
    Ok(SyncResult { wall: cost.wall, cpu: cost.cpu, stores_cpu, peak_kib: cost.peak_kib })
}

impl Field<'_> {
    /// Bytes that have passed the link so far.
    fn carried(&self) -> u64 {
        self.relay.as_ref().map_or(0, Relay::carried)
    }

    /// Fails if the bucket does not hold all files, or if they did not pass the link.
    async fn check(&self, bucket: &str, carried: u64) -> Result<()> {
        let found = rclone::size(&self.world.files(), self.world.cloud(), bucket).await?;
        let expected = (u64::from(self.workload.count()), self.workload.bytes());
        ensure!(found == expected, "{bucket} holds {found:?} instead of {expected:?}");
        let passed = self.carried() - carried;
        ensure!(self.relay.is_none() || passed >= expected.1, "only {passed} bytes passed the link");
        Ok(())
    }
}

fn stores_cpu(world: &World) -> Result<Duration> {
    let [local, cloud] = world.store_pids();
    Ok(proc::cpu(local)? + proc::cpu(cloud)?)
}

/// The time between two moments that were recorded in the database.
pub(crate) fn between(start: Option<DateTime<Utc>>, end: Option<DateTime<Utc>>) -> Duration {
    match (start, end) {
        (Some(start), Some(end)) => (end - start).to_std().unwrap_or_default(),
        _ => Duration::ZERO,
    }
}

fn explain(
    workload: &Workload,
    ours: &[SyncResult],
    peers: &[Peer],
    details: &[RunDetails],
    report: &mut Report,
) {
    let title = &workload.title;
    let proof = "every byte hashed in transit and every object's checksum confirmed by the destination";
    report.note(format!("{title}, worker: {}; {proof}", costs(ours)));
    for peer in peers {
        let is_default = peer.flags.is_empty();
        let proof = if is_default { "verified as by default" } else { "not verified by these flags" };
        report.note(format!("{title}, {}: {}; {proof}", rclone::shown(peer.flags), costs(&peer.results)));
    }
    let from_request: Vec<Duration> = details.iter().map(|it| it.from_request).collect();
    let postgres: Vec<Duration> = details.iter().map(|it| it.postgres_cpu).collect();
    let Some(work) = details.last().map(|it| it.work) else { return };
    let files = f64::from(workload.count());
    let transactions = f64::from(u32::try_from(work.transactions).unwrap_or(u32::MAX));
    report.note(format!(
        "{title}, worker, from the request to the end: {}; Postgres used {} of processor time, {:.2} transactions and \
         {:.2} ms of statements per file",
        seconds(median(&from_request)),
        seconds(median(&postgres)),
        transactions / files,
        work.active_ms / files,
    ));
}

/// The medians of one side.
fn costs(results: &[SyncResult]) -> String {
    let cpu: Vec<Duration> = results.iter().map(|it| it.cpu).collect();
    let stores: Vec<Duration> = results.iter().map(|it| it.stores_cpu).collect();
    let peak: Vec<u64> = results.iter().map(|it| it.peak_kib).collect();
    format!(
        "{}, {} of processor time, {} peak memory, {} of processor time in the two stores",
        seconds(median(&walls(results))),
        seconds(median(&cpu)),
        mebibytes(median_number(&peak)),
        seconds(median(&stores)),
    )
}
