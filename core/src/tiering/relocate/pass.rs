//! The engine of relocations. It works in passes that can be interrupted anywhere: each pass finishes the evictions of
//! processes that died, gets the next replicas from its planner, evicts those that are verified elsewhere, and records
//! what the others wait for. One process at a time; all state between passes is in the database.

use diesel_async::AsyncConnection;
use tokio_util::sync::CancellationToken;

use super::drain::planner::Drain;
use super::rebalance::planner::Rebalancer;
use super::report::Report;
use crate::context::Context;
use crate::db::replicas::{self, BrokenOff, Departing, Departure, EvictableCopy};
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::object::identity;
use crate::store::{ObjectKey, Store, StoreRole, UploadId};
use crate::tiering::evict::EvictionPass;
use crate::tiering::lease::with_lease;

/// Maximum number of replicas evicted under one lease.
pub(super) const MAX_EVICTED_TOGETHER: usize = 250;

/// The result of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something was moved: the next pass is due soon.
    Moved,
    /// Nothing could be done now.
    Waiting,
    /// Nothing is left to move.
    Finished,
    /// Another process holds the lease.
    Elsewhere,
}

/// Replicas that can be evicted.
#[derive(Debug)]
pub(super) struct Batch<'p> {
    pub(super) from: &'p Store,
    /// Each replica has a readable verified copy in one of these stores.
    pub(super) to: Vec<&'p str>,
    /// Whether the rows name the target store of the move. If not, `to` is used.
    pub(super) marked: bool,
    /// Replicas that are intact as far as recorded.
    pub(super) sound: Vec<ObjectId>,
    /// Replicas recorded as lost or queued again: verified before they are deleted.
    pub(super) doubtful: Vec<ObjectId>,
}

/// The next step of a planner.
#[derive(Debug)]
pub(super) enum Next<'p> {
    /// These replicas can be evicted.
    Evict(Batch<'p>),
    /// The others wait until something has moved.
    Wait,
    /// Called when all replicas were examined.
    End,
}

/// Selects the replicas to relocate and their targets, and makes all changes other than evictions. An enum instead of a
/// trait: the compiler cannot yet prove that the future of a generic planner with a lifetime is `Send`.
pub(super) enum Planner<'p> {
    Drain(Drain<'p>),
    Rebalance(Rebalancer<'p>),
}

impl<'p> Planner<'p> {
    /// Loads the planner's input. Called first, under the lease.
    async fn prepare(&mut self, pass: &mut Pass<'p>) -> Result<()> {
        match self {
            Self::Drain(planner) => planner.prepare(pass).await,
            Self::Rebalance(planner) => planner.prepare(pass).await,
        }
    }

    /// The source stores, each with the stores that hold its replicas instead if the rows do not name them.
    fn sources(&self) -> Vec<(&'p Store, Vec<&'p str>)> {
        match self {
            Self::Drain(planner) => planner.sources(),
            Self::Rebalance(planner) => planner.sources(),
        }
    }

    /// Examines the next replicas: queues copies of those not verified elsewhere, and counts those that wait.
    async fn next(&mut self, pass: &mut Pass<'p>) -> Result<Next<'p>> {
        match self {
            Self::Drain(planner) => planner.next(pass).await,
            Self::Rebalance(planner) => planner.next(pass).await,
        }
    }

    /// Called when all replicas were examined.
    async fn end(&mut self, pass: &mut Pass<'p>) -> Result<()> {
        match self {
            Self::Drain(planner) => planner.end(pass).await,
            Self::Rebalance(planner) => planner.end(pass).await,
        }
    }

    /// Records what the relocation waits for, or that nothing is left. Returns whether nothing is left.
    async fn note(&self, pass: &Pass<'p>, at_end: bool) -> Result<bool> {
        match self {
            Self::Drain(planner) => planner.note(pass, at_end).await,
            Self::Rebalance(planner) => planner.note(pass).await,
        }
    }
}

pub(super) struct Pass<'p> {
    pub(super) context: &'p Context,
    pub(super) worker: WorkerId,
    pub(super) stop: &'p CancellationToken,
    pub(super) report: Report,
}

/// One pass under the lease `name`, until `stop`.
pub(super) async fn run<'p>(
    context: &'p Context,
    name: &str,
    worker: WorkerId,
    stop: &'p CancellationToken,
    mut planner: Planner<'p>,
) -> Result<Outcome> {
    let work = Box::pin(async {
        let mut pass = Pass { context, worker, stop, report: Report::default() };
        pass.run(&mut planner).await
    });
    Ok(with_lease(context, name, work).await?.unwrap_or(Outcome::Elsewhere))
}

impl<'p> Pass<'p> {
    async fn run(&mut self, planner: &mut Planner<'p>) -> Result<Outcome> {
        planner.prepare(self).await?;
        for (store, to) in planner.sources() {
            if !self.is_proven(store).await {
                continue;
            }
            self.report.evicted += self.eviction_from(store, to).take_over().await?;
        }
        let at_end = loop {
            if self.stop.is_cancelled() {
                return Ok(Outcome::Waiting);
            }
            match planner.next(self).await? {
                Next::Evict(batch) => self.evict(&batch).await?,
                Next::Wait => break false,
                Next::End => break true,
            }
        };
        if at_end {
            planner.end(self).await?;
        }
        let finished = planner.note(self, at_end).await?;
        Ok(match (finished, self.report.has_changed()) {
            (true, _) => Outcome::Finished,
            (false, true) => Outcome::Moved,
            (false, false) => Outcome::Waiting,
        })
    }

    async fn evict(&mut self, batch: &Batch<'p>) -> Result<()> {
        if !self.is_proven(batch.from).await {
            return Ok(());
        }
        let locals = self.context.stores.names_with(StoreRole::Local);
        let clouds = self.context.stores.names_with(StoreRole::Cloud);
        let moving_to = if batch.marked { Vec::new() } else { batch.to.clone() };
        for (objects, which) in [(&batch.sound, Departing::Sound), (&batch.doubtful, Departing::Doubtful)] {
            // A doubtful one may be missing: it is verified before it counts again.
            let untouched = which == Departing::Sound;
            for objects in objects.chunks(MAX_EVICTED_TOGETHER) {
                if self.stop.is_cancelled() {
                    return Ok(());
                }
                let token = LeaseToken::new();
                let terms = self.terms(batch.from, &batch.to, &clouds, token);
                let mut conn = self.context.db.conn().await?;
                let claimed = conn
                    .transaction(async |conn| {
                        // A copy that was committed while its file was being synced may not be marked evictable yet.
                        replicas::mark_evictable(conn, &locals, &clouds, objects).await?;
                        replicas::claim_departures(conn, terms, which, objects).await
                    })
                    .await?;
                drop(conn);
                let done = self
                    .eviction_from(batch.from, moving_to.clone())
                    .evict(token, claimed, untouched)
                    .await?;
                self.report.evicted += done.evicted;
                self.report.not_deleted += done.left + done.unread;
            }
        }
        Ok(())
    }

    /// Deletes copies that were started in a store and never verified. Returns how many are still marked.
    pub(super) async fn delete_leftovers(
        &self,
        store: &'p Store,
        moving_to: Vec<&'p str>,
        token: LeaseToken,
        claimed: Vec<EvictableCopy>,
    ) -> Result<usize> {
        let done = self.eviction_from(store, moving_to).evict(token, claimed, false).await?;
        Ok(done.left + done.unread)
    }

    fn eviction_from(&self, store: &'p Store, moving_to: Vec<&'p str>) -> EvictionPass<'p> {
        EvictionPass::new(self.context, store, moving_to, self.worker, self.stop)
    }

    pub(super) fn terms<'t>(
        &self,
        store: &'t Store,
        to: &'t [&'t str],
        primary_stores: &'t [&'t str],
        token: LeaseToken,
    ) -> Departure<'t> {
        let lease = self.context.config.tiering.lease;
        Departure { store: store.name().as_str(), to, primary_stores, worker: self.worker, token, lease }
    }

    /// Aborts multipart uploads into a store that no copy continues.
    pub(super) async fn abort(&mut self, store: &Store, interrupted: Vec<BrokenOff>) -> Result<()> {
        if !self.is_proven(store).await {
            return Ok(());
        }
        for copy in interrupted {
            let key = ObjectKey::parse(&copy.key)?;
            let (name, upload) = (store.name().as_str(), copy.upload_id.as_str());
            let is_interrupted = {
                let mut conn = self.context.db.conn().await?;
                replicas::is_interrupted(&mut conn, copy.object_id, name, upload).await?
            };
            // A worker has resumed it since, because the drain was cancelled.
            if !is_interrupted {
                continue;
            }
            if let Err(error) = store.abort_multipart(&key, &UploadId::new(copy.upload_id.clone())).await {
                self.report.last_error = Some(error.to_string());
                self.report.not_aborted += 1;
                continue;
            }
            let mut conn = self.context.db.conn().await?;
            let forgotten = replicas::delete_interrupted(&mut conn, store.name().as_str(), &copy).await?;
            self.report.changed += usize::from(forgotten);
        }
        Ok(())
    }

    /// Whether the store is the recorded one, so that something may be deleted from it; records it if not.
    async fn is_proven(&mut self, store: &Store) -> bool {
        let is_proven = identity::is_proven(self.context, store).await;
        if !is_proven {
            self.report.unhealthy.insert(store.name().to_string());
        }
        is_proven
    }

    /// Whether all of these stores are healthy; records those that are not.
    pub(super) fn are_healthy(&mut self, stores: &[&str]) -> bool {
        let health = self.context.stores.health();
        let unhealthy: Vec<&&str> = stores.iter().filter(|name| !health.is_healthy(name)).collect();
        let all_healthy = unhealthy.is_empty();
        self.report.unhealthy.extend(unhealthy.into_iter().map(|name| (*name).to_owned()));
        all_healthy
    }
}
