//! The engine of every relocation, in passes that may break off anywhere: each finishes the evictions of processes that
//! died, asks its planner for the next replicas, evicts those that are verified elsewhere, and notes what the rest waits
//! for. One process at a time; nothing is remembered between passes but what stands in the database.

use diesel_async::AsyncConnection;
use tokio_util::sync::CancellationToken;

use super::drain::planner::Drain;
use super::rebalance::planner::Rebalancer;
use super::report::Report;
use crate::context::Context;
use crate::db::replicas::{self, BrokenOff, Departure, EvictableCopy};
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::store::{ObjectKey, Store, StoreRole, UploadId};
use crate::tiering::evict::EvictionPass;
use crate::tiering::lease::with_lease;

/// Replicas evicted under one lease.
pub(super) const MAX_EVICTED_TOGETHER: usize = 100;

/// The result of a pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something was moved: the next pass is due soon.
    Moved,
    /// Nothing could be done now.
    Waiting,
    /// The store is empty.
    Finished,
    /// Another process holds the lease.
    Elsewhere,
}

/// Replicas that may go.
#[derive(Debug)]
pub(super) struct Batch<'p> {
    pub(super) from: &'p Store,
    /// The stores of which one holds a readable verified replica of each.
    pub(super) to: Vec<&'p str>,
    /// Whether their rows name the store to which they move. If not, `to` stands for it.
    pub(super) marked: bool,
    /// Whole where they are, as far as is known.
    pub(super) sound: Vec<ObjectId>,
    /// Lost where they are, or queued there again: proved before they are deleted.
    pub(super) doubtful: Vec<ObjectId>,
}

/// The next step of a planner.
#[derive(Debug)]
pub(super) enum Next<'p> {
    /// These may go.
    Evict(Batch<'p>),
    /// The rest waits until something has moved.
    Wait,
    /// All was looked at.
    End,
}

/// Decides which replicas go where. Everything that is not an eviction it does itself. No trait: the compiler cannot prove yet
/// that the future of a generic planner with a lifetime is `Send`.
pub(super) enum Planner<'p> {
    Drain(Drain<'p>),
    Rebalance(Rebalancer<'p>),
}

impl<'p> Planner<'p> {
    /// Reads what it goes by; first of all, under the lease.
    async fn prepare(&mut self, pass: &mut Pass<'p>) -> Result<()> {
        match self {
            Self::Drain(planner) => planner.prepare(pass).await,
            Self::Rebalance(planner) => planner.prepare(pass).await,
        }
    }

    /// The stores that replicas leave, each with the stores that hold them instead where their rows do not say it.
    fn sources(&self) -> Vec<(&'p Store, Vec<&'p str>)> {
        match self {
            Self::Drain(planner) => planner.sources(),
            Self::Rebalance(planner) => planner.sources(),
        }
    }

    /// Looks at the next replicas: queues copies of what is not verified elsewhere and counts what is waited for.
    async fn next(&mut self, pass: &mut Pass<'p>) -> Result<Next<'p>> {
        match self {
            Self::Drain(planner) => planner.next(pass).await,
            Self::Rebalance(planner) => planner.next(pass).await,
        }
    }

    /// All was looked at.
    async fn end(&mut self, pass: &mut Pass<'p>) -> Result<()> {
        match self {
            Self::Drain(planner) => planner.end(pass).await,
            Self::Rebalance(planner) => planner.end(pass).await,
        }
    }

    /// Notes what is waited for, or that nothing is left. Returns whether nothing is.
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
            self.report.evicted += self.freeing(store, to).take_over().await?;
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
        let locals = self.context.stores.names_with(StoreRole::Local);
        let clouds = self.context.stores.names_with(StoreRole::Cloud);
        let moving_to = if batch.marked { Vec::new() } else { batch.to.clone() };
        for (objects, untouched) in [(&batch.sound, true), (&batch.doubtful, false)] {
            for objects in objects.chunks(MAX_EVICTED_TOGETHER) {
                if self.stop.is_cancelled() {
                    return Ok(());
                }
                let token = LeaseToken::new();
                let terms = self.terms(batch.from, &batch.to, &clouds, token);
                let mut conn = self.context.db.conn().await?;
                let claimed = conn
                    .transaction(async |conn| {
                        // A copy that was committed at the moment in which its file crossed has not seen that.
                        replicas::mark_evictable(conn, &locals, &clouds, objects).await?;
                        replicas::claim_departures(conn, terms, objects).await
                    })
                    .await?;
                drop(conn);
                let done =
                    self.freeing(batch.from, moving_to.clone()).free(token, claimed, untouched).await?;
                self.report.evicted += done.evicted;
                self.report.not_deleted += done.left;
            }
        }
        Ok(())
    }

    /// Deletes what was begun in a store and never verified there. Returns how many of it are still marked.
    pub(super) async fn delete_leftovers(
        &self,
        store: &'p Store,
        moving_to: Vec<&'p str>,
        token: LeaseToken,
        claimed: Vec<EvictableCopy>,
    ) -> Result<usize> {
        Ok(self.freeing(store, moving_to).free(token, claimed, false).await?.left)
    }

    fn freeing(&self, store: &'p Store, moving_to: Vec<&'p str>) -> EvictionPass<'p> {
        EvictionPass { context: self.context, store, moving_to, worker: self.worker, stop: self.stop }
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

    /// Aborts multipart uploads into a store that nobody goes on with.
    pub(super) async fn abort(&mut self, store: &Store, interrupted: Vec<BrokenOff>) -> Result<()> {
        for copy in interrupted {
            let key = ObjectKey::parse(&copy.key)?;
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

    /// Whether all of these stores are healthy; notes those that are not.
    pub(super) fn are_healthy(&mut self, stores: &[&str]) -> bool {
        let health = self.context.stores.health();
        let unhealthy: Vec<&&str> = stores.iter().filter(|name| !health.is_healthy(name)).collect();
        let all_healthy = unhealthy.is_empty();
        self.report.unhealthy.extend(unhealthy.into_iter().map(|name| (*name).to_owned()));
        all_healthy
    }
}
