//! The work of evening out the local stores, in passes that may break off anywhere: each deletes what has arrived where it
//! goes and gives up what is not wanted any more ([`super::settle`]), and begins as much more as there is room for
//! ([`super::begin`]). One process at a time; nothing is remembered between passes but what stands in the database.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::found::Found;
use crate::context::Context;
use crate::db::rebalances::{self, Rebalance, Route};
use crate::db::replicas::{self, Moving};
use crate::db::{chores, drains};
use crate::error::Result;
use crate::ids::{LeaseToken, WorkerId};
use crate::store::{Store, StoreRole};
use crate::tiering::evict::Freeing;

/// Replicas on their way at once: enough to keep workers busy, and few enough to look at again and again.
pub(super) const ON_THEIR_WAY: usize = 5_000;
/// After so long a copy that was given up is tried again.
const PATIENCE: Duration = Duration::from_secs(300);
const CHORE: &str = "rebalance";

/// What a pass came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something moved: look again soon.
    Moved,
    /// Nothing could be done at this moment.
    Waiting,
    /// Another process does it.
    Elsewhere,
}

/// What was asked for and has not come to its end; none when there is nothing to do.
///
/// # Errors
/// Whatever the database meets.
pub async fn under_way(context: &Context) -> Result<Option<Rebalance>> {
    let mut conn = context.db.conn().await?;
    Ok(rebalances::last(&mut conn).await?.filter(|last| last.finished_at.is_none()))
}

/// One pass over what [`under_way`] answered, until `stop`.
///
/// # Errors
/// Whatever the database meets; the next pass goes on. A store that fails is logged, and what is waited for noted.
pub async fn pass(
    context: &Context,
    rebalance: &Rebalance,
    worker: WorkerId,
    stop: &CancellationToken,
) -> Result<Outcome> {
    let token = LeaseToken::new();
    let lasting = {
        let mut conn = context.db.conn().await?;
        if !chores::take(&mut conn, CHORE, token, context.config.tiering.lease).await? {
            return Ok(Outcome::Elsewhere);
        }
        let draining = drains::names(&mut conn).await?;
        let mut lasting = context.stores.names_with(StoreRole::Local);
        lasting.retain(|name| !draining.iter().any(|it| it == name));
        lasting
    };
    let mut pass = Pass {
        context,
        worker,
        stop,
        token,
        lasting,
        active: rebalance.is_active(),
        found: Found::default(),
    };
    let outcome = pass.all(rebalance).await;
    let mut conn = context.db.conn().await?;
    chores::give_back(&mut conn, CHORE, token).await?;
    outcome
}

/// One pass.
pub(super) struct Pass<'p> {
    pub(super) context: &'p Context,
    pub(super) worker: WorkerId,
    pub(super) stop: &'p CancellationToken,
    /// That of the chore.
    token: LeaseToken,
    /// Local stores that are not being emptied.
    pub(super) lasting: Vec<&'p str>,
    /// Whether more is begun, and what fails tried again.
    active: bool,
    pub(super) found: Found,
}

impl<'p> Pass<'p> {
    async fn all(&mut self, rebalance: &Rebalance) -> Result<Outcome> {
        let (routes, moving) = {
            let mut conn = self.context.db.conn().await?;
            self.found.let_stay += replicas::move_only_among(&mut conn, &self.lasting).await?;
            let most = i64::try_from(ON_THEIR_WAY * 2).unwrap_or(i64::MAX);
            (rebalances::routes(&mut conn).await?, replicas::moving(&mut conn, PATIENCE, most).await?)
        };
        self.take_over(&routes).await?;
        let under_way = moving.len();
        let mut pairs: BTreeMap<(String, String), Vec<Moving>> = BTreeMap::new();
        for replica in moving {
            pairs.entry((replica.store.clone(), replica.moves_to.clone())).or_default().push(replica);
        }
        for ((from, to), replicas) in pairs {
            let (Some(from), Some(to)) = (self.context.stores.get(&from), self.context.stores.get(&to))
            else {
                continue;
            };
            let sorted = self.found.sort(replicas, self.active);
            if !self.settle(from, to, sorted).await? {
                return Ok(Outcome::Elsewhere);
            }
        }
        if self.active && !self.stop.is_cancelled() {
            self.begin_more(rebalance, routes, under_way).await?;
        }
        self.sum_up().await
    }

    /// Finishes the deletions that workers that died had begun.
    async fn take_over(&mut self, routes: &[Route]) -> Result<()> {
        let from: BTreeSet<&str> = routes.iter().map(|route| route.from_store.as_str()).collect();
        for store in from.into_iter().filter_map(|name| self.context.stores.get(name)) {
            self.found.moved += self.freeing(store, Vec::new()).take_over().await?;
        }
        Ok(())
    }

    pub(super) fn freeing<'f>(&self, store: &'f Store, moving_to: Vec<&'f str>) -> Freeing<'f>
    where
        'p: 'f,
    {
        Freeing { context: self.context, store, moving_to, worker: self.worker, stop: self.stop }
    }

    /// Whether this pass is still the only one.
    pub(super) async fn is_ours(&self) -> Result<bool> {
        let mut conn = self.context.db.conn().await?;
        chores::take(&mut conn, CHORE, self.token, self.context.config.tiering.lease).await
    }

    pub(super) fn are_well(&mut self, stores: &[&str]) -> bool {
        let unwell = stores.iter().filter(|name| !self.context.stores.health().is_well(name));
        let unwell: Vec<String> = unwell.map(|name| (*name).to_owned()).collect();
        let all_well = unwell.is_empty();
        self.found.unwell.extend(unwell);
        all_well
    }

    /// Notes what is waited for, or that this was the end.
    async fn sum_up(&self) -> Result<Outcome> {
        let mut conn = self.context.db.conn().await?;
        if rebalances::note(&mut conn, self.found.reason().as_deref()).await? {
            tracing::info!(target: "nightferry::sync", "the local stores are evened out");
        }
        Ok(if self.found.moved + self.found.begun + self.found.let_stay > 0 {
            Outcome::Moved
        } else {
            Outcome::Waiting
        })
    }
}
