//! The work of emptying a store, in passes that may break off anywhere: each looks at what is left in the order of its
//! objects, evicts what has a verified replica elsewhere, and queues what has none. One process at a time.

use std::time::Duration;

use diesel_async::AsyncConnection;
use tokio_util::sync::CancellationToken;

use super::drain::homes_instead;
use super::evict::Freeing;
use super::policy;
use crate::context::Context;
use crate::db::drains::{self, Drain};
use crate::db::enums::ReplicaState;
use crate::db::replicas::{self, DRAIN_RULE, Departure, Leaving, MOVES};
use crate::db::{chores, listen};
use crate::error::{Error, Result};
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::store::{ObjectKey, Store, StoreRole, UploadId};

/// Replicas looked at in one statement.
const BATCH: i64 = 500;
/// Replicas evicted under one lease.
const EVICTED_TOGETHER: usize = 100;
/// Copies on their way at once: enough to keep workers busy, and few enough to look at again and again.
const ON_THEIR_WAY: usize = 5_000;
/// Broken uploads that are aborted in one pass.
const ABORTED: i64 = 1_000;
/// After so long a copy that was given up is tried again.
const PATIENCE: Duration = Duration::from_secs(300);

/// What a pass over a store came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Something moved: look again soon.
    Moved,
    /// Nothing could be done at this moment.
    Waiting,
    /// Nothing is left.
    Empty,
    /// Another process does it.
    Elsewhere,
}

/// Every store that is being emptied or is empty.
///
/// # Errors
/// Whatever the database meets.
pub async fn all(context: &Context) -> Result<Vec<Drain>> {
    let mut conn = context.db.conn().await?;
    drains::all(&mut conn).await
}

/// One pass over a store that is being emptied, until `stop`.
///
/// # Errors
/// Whatever the database meets; the next pass goes on. A store that fails is logged, and what it waits for noted.
pub async fn pass(
    context: &Context,
    name: &str,
    worker: WorkerId,
    stop: &CancellationToken,
) -> Result<Outcome> {
    let (chore, token) = (format!("drain {name}"), LeaseToken::new());
    let mut conn = context.db.conn().await?;
    if !chores::take(&mut conn, &chore, token, context.config.tiering.lease).await? {
        return Ok(Outcome::Elsewhere);
    }
    let draining = drains::names(&mut conn).await?;
    drop(conn);
    let outcome = match context.stores.get(name) {
        Some(store) => {
            let to = homes_instead(context, store, &draining);
            let mut leaving = Leave::new(context, store, to, worker, stop);
            leaving.all(&chore, token).await
        }
        // Taken out of the configuration, as one does with a store that is empty.
        None => Ok(Outcome::Empty),
    };
    let mut conn = context.db.conn().await?;
    chores::give_back(&mut conn, &chore, token).await?;
    outcome
}

/// One pass.
struct Leave<'p> {
    freeing: Freeing<'p>,
    found: Found,
}

/// What a pass has found so far.
#[derive(Debug, Default)]
struct Found {
    evicted: usize,
    /// Marked, and not deleted.
    not_deleted: usize,
    queued: usize,
    on_their_way: usize,
    failed: usize,
    /// Without a readable verified copy anywhere.
    without_source: usize,
    /// Copied to where they belong, and archived there.
    archived: usize,
    last_error: Option<String>,
}

impl<'p> Leave<'p> {
    fn new(
        context: &'p Context,
        store: &'p Store,
        moving_to: Vec<&'p str>,
        worker: WorkerId,
        stop: &'p CancellationToken,
    ) -> Self {
        Self { freeing: Freeing { context, store, moving_to, worker, stop }, found: Found::default() }
    }

    fn store(&self) -> &'p str {
        self.freeing.store.name().as_str()
    }

    /// Walks over what is left, and sees whether that was the end.
    async fn all(&mut self, chore: &str, token: LeaseToken) -> Result<Outcome> {
        let context = self.freeing.context;
        self.found.evicted += self.freeing.take_over().await?;
        let (mut after, mut at_end) = (ObjectId(uuid::Uuid::nil()), false);
        while !self.freeing.stop.is_cancelled() {
            {
                let mut conn = context.db.conn().await?;
                if !chores::take(&mut conn, chore, token, context.config.tiering.lease).await? {
                    return Ok(Outcome::Elsewhere);
                }
            }
            let leaving = {
                let mut conn = context.db.conn().await?;
                let to = &self.freeing.moving_to;
                replicas::leaving(&mut conn, self.store(), to, PATIENCE, after, BATCH).await?
            };
            let Some(last) = leaving.last() else {
                at_end = true;
                break;
            };
            after = last.object_id;
            let before = self.found.evicted;
            self.batch(&leaving).await?;
            // What comes after waits until something of this has moved.
            if self.found.is_enough() && self.found.evicted == before {
                break;
            }
        }
        if self.freeing.stop.is_cancelled() {
            return Ok(Outcome::Waiting);
        }
        if at_end {
            self.clear_away().await?;
        }
        self.sum_up(at_end).await
    }

    /// Evicts and queues what can be, and counts the rest.
    async fn batch(&mut self, leaving: &[Leaving]) -> Result<()> {
        let mut safe = Vec::new();
        let mut unplaced = Vec::new();
        for replica in leaving {
            if replica.last_error.is_some() && !replica.is_safe {
                self.found.last_error.clone_from(&replica.last_error);
            }
            match replica {
                Leaving { is_safe: true, .. } => safe.push(replica.object_id),
                Leaving { has_a_source: false, .. } => self.found.without_source += 1,
                Leaving { is_on_its_way: true, .. } => self.found.on_their_way += 1,
                Leaving { has_failed: true, .. } => self.found.failed += 1,
                Leaving { .. } => unplaced.push(replica.object_id),
            }
        }
        // A copy that is bad here may be good there, and one that was only noted as lost is proved before it goes.
        let (sound, doubtful): (Vec<ObjectId>, Vec<ObjectId>) = safe.into_iter().partition(|id| {
            leaving.iter().any(|it| it.object_id == *id && it.state == ReplicaState::Present)
        });
        for (ids, untouched) in [(sound, true), (doubtful, false)] {
            for some in ids.chunks(EVICTED_TOGETHER) {
                self.evict(some, untouched).await?;
            }
        }
        let room = ON_THEIR_WAY.saturating_sub(self.found.under_way());
        unplaced.truncate(room);
        if !unplaced.is_empty() {
            self.queue(&unplaced).await?;
        }
        Ok(())
    }

    async fn evict(&mut self, objects: &[ObjectId], untouched: bool) -> Result<()> {
        if self.freeing.stop.is_cancelled() {
            return Ok(());
        }
        let token = LeaseToken::new();
        let context = self.freeing.context;
        let homes = context.stores.names_with(StoreRole::Cloud);
        let terms = self.terms(token, &homes);
        let mut conn = context.db.conn().await?;
        let ours = conn
            .transaction(async move |conn| replicas::claim_departures(conn, terms, objects).await)
            .await?;
        drop(conn);
        let done = self.freeing.free(token, ours, untouched).await?;
        self.found.evicted += done.freed;
        self.found.not_deleted += done.left;
        Ok(())
    }

    fn terms<'t>(&'t self, token: LeaseToken, homes: &'t [&'t str]) -> Departure<'t> {
        Departure {
            store: self.store(),
            to: &self.freeing.moving_to,
            homes,
            worker: self.freeing.worker,
            token,
            lease: self.freeing.context.config.tiering.lease,
        }
    }

    /// Queues copies where they are to be: in the store of the same role, or where the policy puts them, and what no rule
    /// wants anywhere in the first store that takes it.
    async fn queue(&mut self, objects: &[ObjectId]) -> Result<()> {
        let context = self.freeing.context;
        let up = |name: &&str| context.stores.health().is_up(name);
        let to = &self.freeing.moving_to;
        let Some(first) = to.iter().find(|name| up(name)).or(to.first()).copied() else { return Ok(()) };
        let to_role = context.stores.get(first).map(Store::role);
        let same_role = to_role == Some(self.freeing.store.role());
        let (from, to) = (self.store(), to.as_slice());
        let mut conn = context.db.conn().await?;
        let policy = policy::in_force(context, &mut conn).await?;
        let queued = conn
            .transaction(async move |conn| {
                let mut queued = 0;
                if to_role == Some(StoreRole::Cloud) && !same_role {
                    queued += replicas::queue_by_policy(conn, from, &policy, objects).await?;
                }
                let unplaced = replicas::without_place(conn, objects, to).await?;
                // A copy in the cloud keeps the rule that wanted it there.
                let rule =
                    if same_role && to_role == Some(StoreRole::Cloud) { None } else { Some(DRAIN_RULE) };
                let priority = if to_role == Some(StoreRole::Cloud) { MOVES } else { replicas::BEHIND };
                queued += replicas::queue_moves(conn, from, first, rule, priority, &unplaced).await?;
                if queued > 0 {
                    listen::notify(conn, listen::RUNS, "drain").await?;
                }
                Ok::<_, Error>(queued)
            })
            .await?;
        self.found.queued += queued;
        self.found.archived += objects.len().saturating_sub(queued);
        Ok(())
    }

    /// What was to come into the store and never did, or broke off on its way.
    async fn clear_away(&mut self) -> Result<()> {
        let context = self.freeing.context;
        let (store, name) = (self.freeing.store, self.store());
        let broken_off = {
            let mut conn = context.db.conn().await?;
            replicas::forget_waiting(&mut conn, name).await?;
            replicas::broken_off(&mut conn, name, ABORTED).await?
        };
        for copy in broken_off {
            let key = ObjectKey::parse(&copy.key)
                .map_err(|error| Error::Internal(format!("object key in the database: {error}")))?;
            if let Err(error) = store.abort_multipart(&key, &UploadId::new(copy.upload_id.clone())).await {
                self.found.last_error = Some(error.to_string());
                return Ok(());
            }
            let mut conn = context.db.conn().await?;
            replicas::forget_broken_off(&mut conn, name, &copy).await?;
        }
        let token = LeaseToken::new();
        let leftovers = {
            let mut conn = context.db.conn().await?;
            replicas::claim_leftovers(&mut conn, self.terms(token, &[]), BATCH).await?
        };
        let some = !leftovers.is_empty();
        let done = self.freeing.free(token, leftovers, false).await?;
        self.found.not_deleted += done.left;
        self.found.evicted += usize::from(some && done.left == 0);
        Ok(())
    }

    /// Notes what the store waits for, or that it is empty.
    async fn sum_up(&self, at_end: bool) -> Result<Outcome> {
        let context = self.freeing.context;
        let name = self.store();
        let mut conn = context.db.conn().await?;
        let nothing_found = at_end && self.found.is_nothing();
        let left = if nothing_found { Some(drains::left_in(&mut conn, name).await?) } else { None };
        let empty = left.is_some_and(|left| left.is_nothing());
        let waits_for = if empty { None } else { self.found.reason(name, &self.freeing.moving_to, left) };
        if drains::note(&mut conn, name, waits_for.as_deref(), empty).await? {
            tracing::info!(target: "nightferry::sync", store = name, "the store is empty");
        }
        Ok(match (empty, self.found.evicted + self.found.queued) {
            (true, _) => Outcome::Empty,
            (false, 0) => Outcome::Waiting,
            (false, _) => Outcome::Moved,
        })
    }
}

impl Found {
    fn under_way(&self) -> usize {
        self.queued + self.on_their_way + self.failed
    }

    fn is_enough(&self) -> bool {
        self.under_way() >= ON_THEIR_WAY
    }

    /// Whether nothing of the store was met that is still there.
    fn is_nothing(&self) -> bool {
        self.under_way() + self.without_source + self.archived + self.not_deleted == 0
    }

    /// What the store waits for, in words.
    fn reason(&self, store: &str, to: &[&str], left: Option<drains::Left>) -> Option<String> {
        let mut reasons = Vec::new();
        let mut say = |count: usize, what: &str| {
            if count > 0 {
                reasons.push(format!("{count} {what}"));
            }
        };
        let places = to.join(" or ");
        say(self.on_their_way + self.queued, &format!("to be copied to {places}"));
        say(self.failed, &format!("given up on the way to {places}, to be tried again"));
        say(self.without_source, "without a readable verified copy anywhere");
        say(self.archived, "whose only other copies are archived or just being freed, and could not be read");
        say(self.not_deleted, &format!("copied and not yet deleted from {store}"));
        if let Some(left) = left {
            let count = |count: i64| usize::try_from(count).unwrap_or(usize::MAX);
            say(count(left.replicas), "still to be looked at");
            say(count(left.copies), &format!("being copied to {store} since before"));
            say(count(left.others), &format!("being uploaded to {store} since before, or deleted from it"));
        }
        let mut text = reasons.join("; ");
        if let Some(error) = &self.last_error {
            text = if text.is_empty() { error.clone() } else { format!("{text}: {error}") };
        }
        (!text.is_empty()).then_some(text)
    }
}
