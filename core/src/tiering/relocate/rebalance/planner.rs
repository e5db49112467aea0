//! The planner of rebalancing: evicts replicas that have arrived in their target store, cancels moves that are no
//! longer required, and queues more moves up to a limit ([`super::begin`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use diesel_async::AsyncConnection;
use tokio_util::sync::CancellationToken;

use super::super::Outcome;
use super::super::pass::{self, Batch, MAX_EVICTED_TOGETHER, Next, Pass, Planner};
use super::super::report::{MAX_UNDER_WAY, Report};
use crate::context::Context;
use crate::db::enums::ReplicaState;
use crate::db::rebalances::{self, Rebalance, Route};
use crate::db::replicas::{self, BrokenOff, Moving};
use crate::db::{drains, listen};
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::store::{Store, StoreRole};

/// Delay before a failed copy is retried.
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// One pass over the moves returned by [`super::under_way`], until `stop`.
///
/// # Errors
/// Any database error; the next pass continues. A failure of a store is logged and recorded as the reason for waiting.
pub async fn pass(
    context: &Context,
    rebalance: &Rebalance,
    worker: WorkerId,
    stop: &CancellationToken,
) -> Result<Outcome> {
    let planner = Rebalancer {
        context,
        lasting: Vec::new(),
        active: rebalance.is_active(),
        tolerance: u8::try_from(rebalance.tolerance).unwrap_or(super::TOLERANCE),
        routes: Vec::new(),
        pairs: Pairs::new(),
        under_way: 0,
    };
    pass::run(context, "rebalance", worker, stop, Planner::Rebalance(planner)).await
}

/// Moving replicas, by source and target store.
type Pairs = BTreeMap<(String, String), Vec<Moving>>;

pub(in crate::tiering::relocate) struct Rebalancer<'p> {
    context: &'p Context,
    /// Local stores that are not being drained.
    pub(super) lasting: Vec<&'p str>,
    /// Whether new moves are started, and failed ones retried.
    active: bool,
    /// Percent.
    pub(super) tolerance: u8,
    pub(super) routes: Vec<Route>,
    /// Not examined yet.
    pairs: Pairs,
    /// Number of moving replicas when the pass began.
    pub(super) under_way: usize,
}

impl<'p> Rebalancer<'p> {
    pub(in crate::tiering::relocate) async fn prepare(&mut self, pass: &mut Pass<'p>) -> Result<()> {
        let mut conn = self.context.db.conn().await?;
        let draining = drains::names(&mut conn).await?;
        self.lasting = self.context.stores.names_with(StoreRole::Local);
        self.lasting.retain(|name| !draining.iter().any(|it| it == name));
        pass.report.changed += replicas::move_only_among(&mut conn, &self.lasting).await?;
        self.routes = rebalances::routes(&mut conn).await?;
        let limit = i64::try_from(MAX_UNDER_WAY * 2).unwrap_or(i64::MAX);
        let moving = replicas::moving(&mut conn, RETRY_AFTER, limit).await?;
        self.under_way = moving.len();
        for replica in moving {
            self.pairs.entry((replica.store.clone(), replica.moves_to.clone())).or_default().push(replica);
        }
        Ok(())
    }

    pub(in crate::tiering::relocate) fn sources(&self) -> Vec<(&'p Store, Vec<&'p str>)> {
        let from: BTreeSet<&str> = self.routes.iter().map(|route| route.from_store.as_str()).collect();
        from.into_iter().filter_map(|name| Some((self.context.stores.get(name)?, Vec::new()))).collect()
    }

    pub(in crate::tiering::relocate) async fn next(&mut self, pass: &mut Pass<'p>) -> Result<Next<'p>> {
        while let Some(((from, to), replicas)) = self.pairs.pop_first() {
            let stores = &self.context.stores;
            let (Some(from), Some(to)) = (stores.get(&from), stores.get(&to)) else { continue };
            let sorted = Sorted::new(&mut pass.report, replicas, self.active);
            sorted.unwanted.take_back(pass, from, to).await?;
            let (mut sound, mut doubtful) = (sorted.sound, sorted.doubtful);
            // The last local copy is not deleted while it is unknown whether the other one can be read.
            if !pass.are_healthy(&[from.name().as_str(), to.name().as_str()]) {
                pass.report.under_way += sound.len() + doubtful.len();
                (sound, doubtful) = (Vec::new(), Vec::new());
            }
            return Ok(Next::Evict(Batch {
                from,
                to: vec![to.name().as_str()],
                marked: true,
                sound,
                doubtful,
            }));
        }
        Ok(Next::End)
    }

    pub(in crate::tiering::relocate) async fn end(&mut self, pass: &mut Pass<'p>) -> Result<()> {
        if self.active { self.begin_more(pass).await } else { Ok(()) }
    }

    pub(in crate::tiering::relocate) async fn note(&self, pass: &Pass<'p>) -> Result<bool> {
        let waits_for = pass.report.waits_for("the source store", &[], None);
        let finished = rebalances::note(&mut *pass.context.db.conn().await?, waits_for.as_deref()).await?;
        if finished {
            tracing::info!(target: "nightferry::sync", "the local stores have been rebalanced");
        }
        Ok(finished)
    }
}

/// What to do with the replicas that move from one store to another.
#[derive(Debug, Default)]
struct Sorted {
    /// Verified in the target store, and intact in the source store.
    sound: Vec<ObjectId>,
    /// Verified in the target store, and lost or queued again in the source store.
    doubtful: Vec<ObjectId>,
    unwanted: Unwanted,
}

/// Moves to cancel, and moves to retry.
#[derive(Debug, Default)]
struct Unwanted {
    /// No copy was started in the target store.
    staying: Vec<ObjectId>,
    /// Copies that were started and never verified.
    unverified: Vec<ObjectId>,
    /// Cancelled, during a multipart upload.
    interrupted: Vec<BrokenOff>,
    /// Copies that failed a while ago and are still required.
    due: Vec<ObjectId>,
}

impl Sorted {
    /// Decides for each replica, and counts those that wait.
    fn new(report: &mut Report, replicas: Vec<Moving>, active: bool) -> Self {
        let mut sorted = Self::default();
        let unwanted = &mut sorted.unwanted;
        for replica in replicas {
            let id = replica.object_id;
            let Some(there) = replica.there else {
                // The copy was deleted in the target store: it is not sent repeatedly.
                unwanted.staying.push(id);
                continue;
            };
            if there != ReplicaState::Present && replica.last_error.is_some() {
                report.last_error.clone_from(&replica.last_error);
            }
            // A source that cannot be read any more is not retried.
            let is_wanted =
                active && (replica.state == ReplicaState::Present || there != ReplicaState::Failed);
            match there {
                ReplicaState::Present if replica.state == ReplicaState::Present => sorted.sound.push(id),
                ReplicaState::Present => sorted.doubtful.push(id),
                ReplicaState::Failed if !is_wanted && replica.was_there => unwanted.staying.push(id),
                ReplicaState::Failed | ReplicaState::Queued if !is_wanted && !replica.was_there => {
                    match replica.upload_id {
                        None => unwanted.unverified.push(id),
                        Some(upload_id) => {
                            unwanted.interrupted.push(BrokenOff {
                                object_id: id,
                                key: replica.key,
                                upload_id,
                            });
                        }
                    }
                }
                ReplicaState::Failed if replica.is_due => unwanted.due.push(id),
                ReplicaState::Failed => report.failed += 1,
                ReplicaState::Queued
                | ReplicaState::Copying
                | ReplicaState::Lost
                | ReplicaState::Evicting => report.under_way += 1,
            }
        }
        sorted
    }
}

impl Unwanted {
    async fn take_back<'p>(self, pass: &mut Pass<'p>, from: &'p Store, to: &'p Store) -> Result<()> {
        let (context, stays_in) = (pass.context, from.name().as_str());
        {
            let mut conn = context.db.conn().await?;
            pass.report.changed += replicas::cancel_moves(&mut conn, stays_in, &self.staying).await?;
            if !self.due.is_empty() {
                let to = to.name().as_str();
                pass.report.queued += replicas::retry_failed(&mut conn, to, &self.due).await?;
                listen::notify(&mut conn, listen::RUNS, "rebalance").await?;
            }
        }
        pass.abort(to, self.interrupted).await?;
        for objects in self.unverified.chunks(MAX_EVICTED_TOGETHER) {
            let token = LeaseToken::new();
            let claimed = {
                let terms = pass.terms(to, &[], &[], token);
                let mut conn = context.db.conn().await?;
                conn.transaction(async |conn| {
                    replicas::claim_unverified(conn, stays_in, terms, objects).await
                })
                .await?
            };
            pass.report.changed += claimed.len();
            // A later eviction pass deletes what remains.
            pass.delete_leftovers(to, vec![stays_in], token, claimed).await?;
        }
        Ok(())
    }
}
