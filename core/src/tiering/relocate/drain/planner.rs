//! The planner of drains: iterates over the remaining replicas of a store by object id. A replica that is verified in
//! another store is evicted; any other is queued for another store.

use std::time::Duration;

use diesel_async::AsyncConnection;
use tokio_util::sync::CancellationToken;

use super::super::Outcome;
use super::super::pass::{self, Batch, Next, Pass, Planner};
use super::super::report::MAX_UNDER_WAY;
use crate::context::Context;
use crate::db::enums::ReplicaState;
use crate::db::replicas::{self, DRAIN_RULE, Leaving, MOVES};
use crate::db::{drains, listen};
use crate::error::{Error, Result};
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::store::{Store, StoreRole};
use crate::tiering::policy;

/// Replicas examined in one statement.
const BATCH: i64 = 500;
/// Maximum number of interrupted uploads to abort in one pass.
const MAX_ABORTED: i64 = 1_000;
/// Delay before a failed copy is retried.
const RETRY_AFTER: Duration = Duration::from_secs(300);

/// One pass over a store that is being drained, until `stop`.
///
/// # Errors
/// Any database error; the next pass continues. A failure of a store is logged and recorded as the reason for waiting.
pub async fn pass(
    context: &Context,
    name: &str,
    worker: WorkerId,
    stop: &CancellationToken,
) -> Result<Outcome> {
    // Removed from the configuration, as is usual for a drained store.
    let Some(store) = context.stores.get(name) else { return Ok(Outcome::Finished) };
    if is_empty_still(context, name).await? {
        return Ok(Outcome::Finished);
    }
    let planner = Drain { store, to: Vec::new(), after: ObjectId(uuid::Uuid::nil()), evicted: 0 };
    pass::run(context, &format!("drain {name}"), worker, stop, Planner::Drain(planner)).await
}

/// Whether a store was found empty before, and is. Then there is nothing to look for in its rows, among those of all
/// other stores.
async fn is_empty_still(context: &Context, name: &str) -> Result<bool> {
    let mut conn = context.db.conn().await?;
    let finished = drains::find(&mut conn, name).await?.is_some_and(|drain| drain.finished_at.is_some());
    Ok(finished && drains::left_in(&mut conn, name).await?.is_nothing())
}

pub(in crate::tiering::relocate) struct Drain<'p> {
    store: &'p Store,
    to: Vec<&'p str>,
    /// The last object examined.
    after: ObjectId,
    /// Number of replicas evicted before the last batch.
    evicted: usize,
}

impl<'p> Drain<'p> {
    pub(in crate::tiering::relocate) async fn prepare(&mut self, pass: &mut Pass<'p>) -> Result<()> {
        let mut conn = pass.context.db.conn().await?;
        self.to = policy::destinations(pass.context, self.store, &drains::names(&mut conn).await?);
        Ok(())
    }

    pub(in crate::tiering::relocate) fn sources(&self) -> Vec<(&'p Store, Vec<&'p str>)> {
        vec![(self.store, self.to.clone())]
    }

    pub(in crate::tiering::relocate) async fn next(&mut self, pass: &mut Pass<'p>) -> Result<Next<'p>> {
        let report = &pass.report;
        if report.pending() >= MAX_UNDER_WAY && report.evicted == self.evicted {
            return Ok(Next::Wait);
        }
        self.evicted = report.evicted;
        let leaving = {
            let mut conn = pass.context.db.conn().await?;
            replicas::leaving(&mut conn, self.name(), &self.to, RETRY_AFTER, self.after, BATCH).await?
        };
        let Some(last) = leaving.last() else { return Ok(Next::End) };
        self.after = last.object_id;
        let (mut sound, mut doubtful, mut unplaced) = (Vec::new(), Vec::new(), Vec::new());
        let report = &mut pass.report;
        for replica in leaving {
            let id = replica.object_id;
            if replica.last_error.is_some() && !replica.is_safe {
                report.last_error.clone_from(&replica.last_error);
            }
            match replica {
                Leaving { is_safe: true, state: ReplicaState::Present, .. } => sound.push(id),
                // A replica that is bad here may be intact in the other store; a replica recorded as lost is verified
                // before it is deleted.
                Leaving { is_safe: true, .. } => doubtful.push(id),
                Leaving { has_a_source: false, .. } => report.without_source += 1,
                Leaving { is_on_its_way: true, .. } => report.under_way += 1,
                Leaving { has_failed: true, .. } => report.failed += 1,
                Leaving { .. } => unplaced.push(id),
            }
        }
        unplaced.truncate(MAX_UNDER_WAY.saturating_sub(report.pending()));
        if !unplaced.is_empty() {
            self.queue(pass, &unplaced).await?;
        }
        Ok(Next::Evict(Batch { from: self.store, to: self.to.clone(), marked: false, sound, doubtful }))
    }

    /// Removes copies into the store that never started or were interrupted.
    pub(in crate::tiering::relocate) async fn end(&mut self, pass: &mut Pass<'p>) -> Result<()> {
        let interrupted = {
            let mut conn = pass.context.db.conn().await?;
            if replicas::waiting_in(&mut conn, self.name()).await? == 0 {
                return Ok(());
            }
            replicas::delete_queued(&mut conn, self.name()).await?;
            replicas::interrupted(&mut conn, self.name(), MAX_ABORTED).await?
        };
        pass.abort(self.store, interrupted).await?;
        let token = LeaseToken::new();
        let leftovers = {
            let terms = pass.terms(self.store, &self.to, &[], token);
            replicas::claim_leftovers(&mut *pass.context.db.conn().await?, terms, BATCH).await?
        };
        let some = !leftovers.is_empty();
        let left = pass.delete_leftovers(self.store, self.to.clone(), token, leftovers).await?;
        pass.report.not_deleted += left;
        pass.report.changed += usize::from(some && left == 0);
        Ok(())
    }

    pub(in crate::tiering::relocate) async fn note(&self, pass: &Pass<'p>, at_end: bool) -> Result<bool> {
        let (report, name) = (&pass.report, self.name());
        let mut conn = pass.context.db.conn().await?;
        let left = if at_end && report.is_nothing_left() {
            Some(drains::left_in(&mut conn, name).await?)
        } else {
            None
        };
        let empty = left.is_some_and(|left| left.is_nothing());
        let waits_for = if empty { None } else { report.waits_for(name, &self.to, left) };
        if drains::note(&mut conn, name, waits_for.as_deref(), empty).await? {
            tracing::info!(target: "nightferry::sync", store = name, "the store is empty");
        }
        Ok(empty)
    }

    fn name(&self) -> &'p str {
        self.store.name().as_str()
    }

    /// Queues copies in their destinations: stores of the same role, or those selected by the policy; objects that no
    /// rule selects go to the first store that accepts them.
    async fn queue(&self, pass: &mut Pass<'p>, objects: &[ObjectId]) -> Result<()> {
        let context = pass.context;
        let (from, to) = (self.name(), self.to.as_slice());
        let health = context.stores.health();
        let accepts = |name: &&&str| health.accepts_writes(name);
        let up = |name: &&&str| health.is_up(name);
        let first = to.iter().find(accepts).or_else(|| to.iter().find(up)).or(to.first());
        let Some(first) = first.copied() else { return Ok(()) };
        let to_cloud = context.stores.get(first).is_some_and(|store| store.role() == StoreRole::Cloud);
        let from_cloud = self.store.role() == StoreRole::Cloud;
        let mut conn = context.db.conn().await?;
        let policy = policy::in_force(context, &mut conn).await?;
        let queued = conn
            .transaction(async move |conn| {
                let mut queued = 0;
                if to_cloud && !from_cloud {
                    queued += replicas::queue_by_policy(conn, from, &policy, objects).await?;
                }
                let unplaced = replicas::without_place(conn, objects, to).await?;
                // A cloud copy keeps its rule.
                let rule = if from_cloud && to_cloud { None } else { Some(DRAIN_RULE) };
                let priority = if to_cloud { MOVES } else { replicas::BEHIND };
                queued += replicas::queue_moves(conn, from, first, rule, priority, &unplaced).await?;
                if queued > 0 {
                    listen::notify(conn, listen::RUNS, "drain").await?;
                }
                Ok::<_, Error>(queued)
            })
            .await?;
        pass.report.queued += queued;
        pass.report.archived += objects.len().saturating_sub(queued);
        Ok(())
    }
}
