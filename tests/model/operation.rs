//! Operations with their references resolved, and how the engine executes them: one worker's turn at a time, in the
//! order in which `nightferry-worker` calls the engine.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use nightferry_core::checksum::{Sha256, Sha256Hasher};
use nightferry_core::context::Context;
use nightferry_core::db::audit::Origin;
use nightferry_core::db::enums::RunTrigger;
use nightferry_core::db::replicas::Finished;
use nightferry_core::db::runs::{NewRun, RunScope};
use nightferry_core::error::{Error, Result};
use nightferry_core::file::{Files, access, change, download, trash, upload};
use nightferry_core::ids::{FileId, RunId, UserId, WorkerId};
use nightferry_core::object::health;
use nightferry_core::object::write::{BodyError, Incoming};
use nightferry_core::services::Services;
use nightferry_core::tiering::claim::{self, Batch};
use nightferry_core::tiering::copy::outcome::{self, Blame};
use nightferry_core::tiering::copy::{self, Copied, CopyLease};
use nightferry_core::tiering::{
    Engine, commit, evict, fetch, reap, reconcile, repair, run, scrub, watermark,
};
use nightferry_tests::harness::database::execute;
use nightferry_tests::harness::world::request;
use tokio_util::sync::CancellationToken;

use crate::op::Place;
use crate::planted::Bug;

/// Number of copies that a worker claims at once.
const BATCH: usize = 3;
/// Time limit of a whole worker if a run does not end because a store fails.
const WORKER: Duration = Duration::from_secs(1);
/// Interval at which the end of the run is checked.
const LOOK: Duration = Duration::from_millis(20);
/// Minimum age of an object without a row to be deleted.
pub(crate) const SAFETY_AGE: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Upload { owner: UserId, name: String, bytes: Bytes },
    Trash(UserId, FileId),
    Restore(FileId),
    Purge(UserId, FileId),
    Pin(FileId, bool),
    Read(UserId, FileId),
    RequestRun { retry: bool },
    CancelRun,
    Work,
    Worker,
    Fetch(FileId),
    WorkFetches,
    Reap,
    Repair,
    Evict,
    Watermark,
    Reconcile(Place, bool),
    Scrub,
}

/// The effect of an operation for the users.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    Nothing,
    Uploaded {
        file: FileId,
        object: uuid::Uuid,
        bytes: Bytes,
    },
    Trashed(FileId),
    Restored(FileId),
    Purged(FileId),
    /// The content read, if any.
    Read(FileId, Sha256),
    /// Every object in the store was compared with its row.
    Reconciled(Place),
}

/// Executes the operation.
pub(crate) async fn perform(services: &Services, operation: Operation, bug: Option<Bug>) -> Result<Effect> {
    let context = &services.context;
    let never = CancellationToken::new();
    match operation {
        Operation::Upload { owner, name, bytes } => {
            let mut body = Whole(Some(bytes.clone()));
            let file = upload::receive(&services.files, request(owner, &name), &mut body).await?;
            return Ok(Effect::Uploaded { file: file.row.id, object: file.object_id.0, bytes });
        }
        Operation::Trash(owner, file) => {
            trash::send(context, owner, file, None, &Origin::default()).await?;
            return Ok(Effect::Trashed(file));
        }
        Operation::Restore(file) => {
            let sql =
                format!("UPDATE files SET deleted_at = NULL WHERE id = '{file}' AND deleted_at IS NOT NULL");
            // The name may be in use by now.
            let restored = execute(&context.db, &sql).await.unwrap_or(0) == 1;
            return Ok(if restored { Effect::Restored(file) } else { Effect::Nothing });
        }
        Operation::Purge(owner, file) => {
            trash::purge(context, owner, file, &Origin::default()).await?;
            return Ok(Effect::Purged(file));
        }
        Operation::Pin(file, pinned) => drop(change::pin(context, file, pinned, &Origin::default()).await?),
        Operation::Read(owner, file) => {
            let read = read(&services.files, owner, file, None).await?;
            access::flush(&services.files).await?;
            return Ok(Effect::Read(file, read));
        }
        Operation::RequestRun { retry } => {
            let scope = RunScope { retry_failed: retry, ..RunScope::default() };
            let new = NewRun { trigger: RunTrigger::Api, requested_by: None, tick: None, scope };
            run::request(context, new, &Origin::default()).await?;
        }
        Operation::CancelRun => {
            if let Some(active) = run::active(context).await? {
                run::cancel(context, active.id, None, &Origin::default()).await?;
            }
        }
        Operation::Work => {
            probe(context).await;
            work(&services.engine, bug).await?;
        }
        Operation::Worker => worker(&services.engine).await?,
        Operation::Fetch(file) => drop(fetch::request(context, file, None, &Origin::default()).await?),
        Operation::WorkFetches => {
            probe(context).await;
            let batch = claim::next_fetches(context, WorkerId::new(), BATCH).await?;
            carry(&services.engine, None, batch, bug).await?;
        }
        Operation::Reap => drop(reap::pass(context).await?),
        Operation::Repair => drop(repair::pass(context).await?),
        Operation::Evict => drop(evict::pass(context, WorkerId::new(), &never).await?),
        Operation::Watermark => drop(watermark::pass(context, WorkerId::new(), &never).await?),
        Operation::Reconcile(place, apply) => {
            let store = context.stores.get(place.name()).unwrap();
            let options = reconcile::Options { apply, safety_age: SAFETY_AGE };
            let mut is_kept = false;
            let tell = |event: reconcile::Event<'_>| {
                if let reconcile::Event::Found(finding) = event {
                    is_kept |= finding.outcome.kept_because().is_some();
                }
            };
            let summary = reconcile::pass(context, store, options, tell, &never).await?;
            let is_whole = summary.is_some_and(|summary| summary.complete && summary.unchecked == 0);
            if is_whole && !is_kept {
                return Ok(Effect::Reconciled(place));
            }
        }
        Operation::Scrub => {
            let options = scrub::Options {
                stores: context.stores.all().cloned().collect(),
                rate: None,
                bytes: None,
                time: None,
                min_age: Duration::ZERO,
            };
            scrub::pass(context, &options, |_| {}, &never).await?;
        }
    }
    Ok(Effect::Nothing)
}

/// Downloads a version and hashes it.
pub(crate) async fn read(files: &Files, owner: UserId, file: FileId, version: Option<i32>) -> Result<Sha256> {
    let target = download::find(&files.context, owner, file, version).await?;
    let mut body = download::open(files, &target, None).await?;
    let mut hasher = Sha256Hasher::new();
    while let Some(chunk) = body.next().await {
        hasher.update(&chunk?);
    }
    Ok(hasher.finish())
}

/// Probes stores that are down, as every process does continuously, and ends pauses, which otherwise end by themselves.
async fn probe(context: &Context) {
    context.stores.health().end_pauses();
    for _ in 0..context.config.health.successes {
        if !context.stores.health().out().is_empty() {
            health::check_all(context).await;
        }
    }
}

/// One iteration of a worker: plans the queued run, claims a batch, copies it, ends the run when nothing is left.
async fn work(engine: &Engine, bug: Option<Bug>) -> Result<()> {
    let context = &engine.context;
    reap::leases(context).await?;
    let Some(mut active) = run::active(context).await? else { return Ok(()) };
    if active.started_at.is_none() {
        let Some(started) = run::start_queued(context).await? else { return Ok(()) };
        active = started;
    }
    let batch = claim::next_batch(context, active.id, WorkerId::new(), BATCH).await?;
    carry(engine, Some(active.id), batch, bug).await?;
    run::settle(context, active.id).await?;
    Ok(())
}

/// A complete worker, until no run is active or its time is up; then it is stopped. Its tasks are not watched, so none
/// of them is interrupted at a step; it ends as after SIGTERM.
async fn worker(engine: &Engine) -> Result<()> {
    let context = &engine.context;
    let stop = CancellationToken::new();
    let working = tokio::spawn(nightferry_worker::run(engine.clone(), stop.clone()));
    let until = Instant::now() + WORKER;
    while run::active(context).await?.is_some() && Instant::now() < until {
        tokio::time::sleep(LOOK).await;
    }
    stop.cancel();
    let ended = working.await.expect("the worker does not panic");
    ended.map_err(|error| Error::Internal(error.to_string()))
}

async fn carry(engine: &Engine, run: Option<RunId>, batch: Batch, bug: Option<Bug>) -> Result<()> {
    let context = &engine.context;
    let leases: Vec<CopyLease> = batch.claims.iter().map(|claim| batch.lease_of(claim)).collect();
    let mut finished = Vec::new();
    for (claim, lease) in batch.claims.into_iter().zip(leases) {
        let token = lease.token();
        if let Some(run) = run
            && run::is_stopped(context, run).await?
        {
            commit::release(context, token, &claim, None, Duration::ZERO).await?;
            continue;
        }
        match copy::copy(engine, &claim, &lease).await {
            Ok(Copied { etag, envelope }) => finished.push(Finished {
                object_id: claim.object_id,
                store: claim.store,
                token,
                etag,
                envelope,
                size: claim.size,
            }),
            Err(error) => {
                let blame = Blame::of(context, &claim, &error).await;
                outcome::record_failure(context, run, token, &claim, &error, blame).await?;
            }
        }
    }
    if finished.is_empty() {
        return Ok(());
    }
    if bug == Some(Bug::CommitWithoutLease) {
        nightferry_core::step::reached(nightferry_core::step::Step::Finishing, "").await;
        take_leases(context, &finished).await;
    }
    commit::finish(context, &finished).await?;
    Ok(())
}

/// Disables the lease check of a commit: the lease always counts as held.
async fn take_leases(context: &Context, finished: &[Finished]) {
    for copy in finished {
        let sql = format!(
            "UPDATE replicas SET state = 'copying', lease_token = '{}', lease_until = now(), \
                    lease_worker = gen_random_uuid() WHERE object_id = '{}' AND store = '{}'",
            copy.token, copy.object_id, copy.store
        );
        execute(&context.db, &sql).await.unwrap();
    }
}

/// Bytes in memory.
struct Whole(Option<Bytes>);

impl Incoming for Whole {
    async fn next(&mut self) -> Option<std::result::Result<Bytes, BodyError>> {
        self.0.take().map(Ok)
    }

    fn at_least(&self) -> u64 {
        self.0.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }

    fn at_most(&self) -> Option<u64> {
        Some(self.at_least())
    }
}

/// Whether the engine may return this error while faults are active. A statement rejected by the database is always a
/// bug.
pub(crate) fn is_expected(error: &Error) -> bool {
    !matches!(error, Error::Database(_))
}
