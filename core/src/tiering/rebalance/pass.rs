//! The work of evening out the local stores, in passes that may break off anywhere: each deletes what has arrived where it
//! goes, gives up what does not arrive when that is wanted, and begins as much more as there is room for. One process at a
//! time; nothing is remembered between passes but what stands in the database.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use diesel_async::AsyncConnection;
use tokio_util::sync::CancellationToken;

use super::balance::{self, Load};
use super::plan::{BATCH, fit};
use crate::context::Context;
use crate::db::enums::ReplicaState;
use crate::db::rebalances::{self, Rebalance, Route};
use crate::db::replicas::{self, BrokenOff, Departure, Moving};
use crate::db::{chores, drains, listen, unsigned};
use crate::error::{Error, Result};
use crate::ids::{LeaseToken, ObjectId, WorkerId};
use crate::store::{ObjectKey, Store, StoreRole, UploadId};
use crate::tiering::evict::Freeing;

/// Replicas deleted under one lease.
const DELETED_TOGETHER: usize = 100;
/// Replicas on their way at once: enough to keep workers busy, and few enough to look at again and again.
const ON_THEIR_WAY: usize = 5_000;
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
struct Pass<'p> {
    context: &'p Context,
    worker: WorkerId,
    stop: &'p CancellationToken,
    /// That of the chore.
    token: LeaseToken,
    /// Local stores that are not being emptied.
    lasting: Vec<&'p str>,
    /// Whether more is begun, and what fails tried again.
    active: bool,
    found: Found,
}

/// What a pass has found so far.
#[derive(Debug, Default)]
struct Found {
    moved: usize,
    begun: usize,
    /// Not wanted any more, and taken back.
    let_stay: usize,
    on_their_way: usize,
    failed: usize,
    /// Marked, and not deleted.
    not_deleted: usize,
    /// Stores of which nothing good is known at this moment.
    unwell: BTreeSet<String>,
    last_error: Option<String>,
}

/// What is to be done with what is on its way from one store to another.
#[derive(Debug, Default)]
struct Sorted {
    /// Proved there, and whole here.
    sound: Vec<ObjectId>,
    /// Proved there, and lost here or not there yet again.
    doubtful: Vec<ObjectId>,
    /// Not wanted there any more, and nothing was begun there.
    staying: Vec<ObjectId>,
    /// Begun there and never proved, and not wanted any more.
    unproved: Vec<ObjectId>,
    /// The same, in the middle of an upload.
    broken_off: Vec<BrokenOff>,
    /// Given up a while ago.
    due: Vec<ObjectId>,
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
            let sorted = self.sort(replicas);
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

    fn freeing<'f>(&self, store: &'f Store, moving_to: Vec<&'f str>) -> Freeing<'f>
    where
        'p: 'f,
    {
        Freeing { context: self.context, store, moving_to, worker: self.worker, stop: self.stop }
    }

    /// What is to be done with each; counts what is waited for.
    fn sort(&mut self, replicas: Vec<Moving>) -> Sorted {
        let mut sorted = Sorted::default();
        for replica in replicas {
            let id = replica.object_id;
            let Some(there) = replica.there else {
                // Somebody took it away there: it is not sent again and again.
                sorted.staying.push(id);
                continue;
            };
            if there != ReplicaState::Present && replica.last_error.is_some() {
                self.found.last_error.clone_from(&replica.last_error);
            }
            // What cannot be read here any more is no source for another try.
            let is_wanted =
                self.active && (replica.state == ReplicaState::Present || there != ReplicaState::Failed);
            match there {
                ReplicaState::Present if replica.state == ReplicaState::Present => sorted.sound.push(id),
                ReplicaState::Present => sorted.doubtful.push(id),
                ReplicaState::Failed if !is_wanted && replica.was_there => sorted.staying.push(id),
                ReplicaState::Failed | ReplicaState::Queued if !is_wanted && !replica.was_there => {
                    match replica.upload_id {
                        None => sorted.unproved.push(id),
                        Some(upload_id) => {
                            sorted.broken_off.push(BrokenOff { object_id: id, key: replica.key, upload_id });
                        }
                    }
                }
                ReplicaState::Failed if replica.is_due => sorted.due.push(id),
                ReplicaState::Failed => self.found.failed += 1,
                ReplicaState::Queued
                | ReplicaState::Copying
                | ReplicaState::Lost
                | ReplicaState::Evicting => {
                    self.found.on_their_way += 1;
                }
            }
        }
        sorted
    }

    /// Does it. Answers false when somebody else does by now.
    async fn settle(&mut self, from: &Store, to: &Store, sorted: Sorted) -> Result<bool> {
        let Sorted { sound, doubtful, staying, unproved, broken_off, due } = sorted;
        {
            let mut conn = self.context.db.conn().await?;
            self.found.let_stay += replicas::let_stay(&mut conn, from.name().as_str(), &staying).await?;
            if !due.is_empty() {
                self.found.begun +=
                    replicas::retry_begun(&mut conn, Some((to.name().as_str(), &due))).await?;
                listen::notify(&mut conn, listen::RUNS, "rebalance").await?;
            }
        }
        self.abort(to, broken_off).await?;
        for some in unproved.chunks(DELETED_TOGETHER) {
            if !self.is_ours().await? {
                return Ok(false);
            }
            self.give_up(from, to, some).await?;
        }
        // The last copy that is near is not taken away while nobody knows whether the other one can be read.
        let arrived = sound.len() + doubtful.len();
        if arrived > 0 && !self.are_well(&[from.name().as_str(), to.name().as_str()]) {
            self.found.on_their_way += arrived;
            return Ok(true);
        }
        for (ids, untouched) in [(sound, true), (doubtful, false)] {
            for some in ids.chunks(DELETED_TOGETHER) {
                if self.stop.is_cancelled() {
                    return Ok(true);
                }
                if !self.is_ours().await? {
                    return Ok(false);
                }
                self.delete(from, to, some, untouched).await?;
            }
        }
        Ok(true)
    }

    /// Whether this pass is still the only one.
    async fn is_ours(&self) -> Result<bool> {
        let mut conn = self.context.db.conn().await?;
        chores::take(&mut conn, CHORE, self.token, self.context.config.tiering.lease).await
    }

    fn are_well(&mut self, stores: &[&str]) -> bool {
        let unwell = stores.iter().filter(|name| !self.context.health.is_well(name));
        let unwell: Vec<String> = unwell.map(|name| (*name).to_owned()).collect();
        let all_well = unwell.is_empty();
        self.found.unwell.extend(unwell);
        all_well
    }

    /// Deletes what is proved where it goes, from where it was.
    async fn delete(
        &mut self,
        from: &Store,
        to: &Store,
        objects: &[ObjectId],
        untouched: bool,
    ) -> Result<()> {
        let token = LeaseToken::new();
        let (locals, homes) = (
            self.context.stores.names_with(StoreRole::Local),
            self.context.stores.names_with(StoreRole::Cloud),
        );
        let moving_to = [to.name().as_str()];
        let terms = self.terms(from, &moving_to, &homes, token);
        let mut conn = self.context.db.conn().await?;
        let ours = conn
            .transaction(async |conn| {
                // One that arrived at the moment in which its file crossed has not seen that.
                replicas::mark_spare(conn, &locals, &homes, objects).await?;
                replicas::claim_departures(conn, terms, objects).await
            })
            .await?;
        drop(conn);
        let done = self.freeing(from, Vec::new()).free(token, ours, untouched).await?;
        self.found.moved += done.freed;
        self.found.not_deleted += done.left;
        Ok(())
    }

    fn terms<'t>(
        &self,
        store: &'t Store,
        to: &'t [&'t str],
        homes: &'t [&'t str],
        token: LeaseToken,
    ) -> Departure<'t> {
        let lease = self.context.config.tiering.lease;
        Departure { store: store.name().as_str(), to, homes, worker: self.worker, token, lease }
    }

    /// Takes away what was begun where it does not go any more, and never proved.
    async fn give_up(&mut self, from: &Store, to: &Store, objects: &[ObjectId]) -> Result<()> {
        let token = LeaseToken::new();
        let terms = self.terms(to, &[], &[], token);
        let stays_in = from.name().as_str();
        let mut conn = self.context.db.conn().await?;
        let ours = conn
            .transaction(async |conn| replicas::claim_unproved(conn, stays_in, terms, objects).await)
            .await?;
        drop(conn);
        self.found.let_stay += ours.len();
        // What is not deleted now is taken up again by whoever frees.
        self.freeing(to, vec![stays_in]).free(token, ours, false).await?;
        Ok(())
    }

    async fn abort(&mut self, to: &Store, broken_off: Vec<BrokenOff>) -> Result<()> {
        for copy in broken_off {
            let key = ObjectKey::parse(&copy.key)
                .map_err(|error| Error::Internal(format!("object key in the database: {error}")))?;
            if let Err(error) = to.abort_multipart(&key, &UploadId::new(copy.upload_id.clone())).await {
                self.found.last_error = Some(error.to_string());
                self.found.on_their_way += 1;
                continue;
            }
            let mut conn = self.context.db.conn().await?;
            let forgotten = replicas::forget_broken_off(&mut conn, to.name().as_str(), &copy).await?;
            self.found.let_stay += usize::from(forgotten);
        }
        Ok(())
    }

    /// Begins what there is room for: never more than was planned, nor more than brings both stores to the mean as it is now.
    async fn begin_more(
        &mut self,
        rebalance: &Rebalance,
        routes: Vec<Route>,
        under_way: usize,
    ) -> Result<()> {
        let mut room = ON_THEIR_WAY.saturating_sub(under_way);
        let routes: Vec<Route> = routes.into_iter().filter(|route| !route.all_begun).collect();
        // Counting what the stores hold is worth it only for so many.
        if routes.is_empty() || room < ON_THEIR_WAY / 4 {
            return Ok(());
        }
        let well: Vec<&str> =
            self.lasting.iter().copied().filter(|name| self.context.health.is_well(name)).collect();
        let mut loads = self.loads(&well).await?;
        let tolerance = u8::try_from(rebalance.tolerance).unwrap_or(super::TOLERANCE);
        for route in routes {
            let ends = [route.from_store.as_str(), route.to_store.as_str()];
            if ends.iter().any(|name| !self.lasting.contains(name)) {
                let mut conn = self.context.db.conn().await?;
                rebalances::note_begun(&mut conn, &route, (0, 0), route.looked_until, true).await?;
                continue;
            }
            let places = ends.map(|name| well.iter().position(|it| *it == name));
            let (true, [Some(from), Some(to)]) = (self.are_well(&ends), places) else { continue };
            let (wanted, slack) = balance::between(&loads, tolerance, from, to);
            let planned = unsigned(route.bytes_planned - route.bytes_begun);
            let (files, bytes) = self.begin_route(&route, wanted.min(planned), slack, room).await?;
            room = room.saturating_sub(files);
            if let Some(load) = loads.get_mut(from) {
                load.bytes = load.bytes.saturating_sub(bytes);
            }
            if let Some(load) = loads.get_mut(to) {
                load.bytes += bytes;
            }
        }
        Ok(())
    }

    async fn loads(&self, stores: &[&str]) -> Result<Vec<Load>> {
        let mut conn = self.context.db.conn().await?;
        let held = replicas::held(&mut conn, stores).await?;
        let load = |name: &&str| Load {
            bytes: held.iter().find(|held| held.store == **name).map_or(0, |held| unsigned(held.expected)),
            capacity: self.context.config.capacity_of(name),
        };
        Ok(stores.iter().map(load).collect())
    }

    /// Begins at most `most` moves along a route, of at most `wanted` bytes. Answers how many, and their bytes.
    async fn begin_route(
        &mut self,
        route: &Route,
        wanted: u64,
        slack: u64,
        most: usize,
    ) -> Result<(usize, u64)> {
        let (mut files, mut bytes, mut after) = (0, 0, route.looked_until);
        while files < most && !self.stop.is_cancelled() && self.is_ours().await? {
            let mut conn = self.context.db.conn().await?;
            let left = wanted.saturating_sub(bytes);
            let fit = if left <= slack {
                None
            } else {
                let seen =
                    replicas::movable(&mut conn, &route.from_store, &route.to_store, after, BATCH).await?;
                Some(fit(&seen, left, slack, most - files)).filter(|fit| fit.until.is_some())
            };
            let is_last = fit.is_none();
            let fit = fit.unwrap_or_default();
            after = fit.until.unwrap_or(after);
            let begun = conn
                .transaction(async |conn| {
                    if !rebalances::lock(conn).await?.is_some_and(|last| last.is_active()) {
                        return Ok(None);
                    }
                    let (from, to) = (&route.from_store, &route.to_store);
                    let begun = replicas::begin_moves(conn, from, to, &fit.objects).await?;
                    rebalances::note_begun(conn, route, (begun.files, begun.bytes), after, is_last).await?;
                    if begun.files > 0 {
                        listen::notify(conn, listen::RUNS, "rebalance").await?;
                    }
                    Ok::<_, Error>(Some(begun))
                })
                .await?;
            let Some(begun) = begun else { break };
            files += usize::try_from(begun.files).unwrap_or(0);
            bytes += unsigned(begun.bytes);
            if is_last {
                break;
            }
        }
        self.found.begun += files;
        Ok((files, bytes))
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

impl Found {
    /// What is waited for, in words.
    fn reason(&self) -> Option<String> {
        let mut reasons: Vec<String> =
            self.unwell.iter().map(|store| format!("{store} is down, or in doubt")).collect();
        let counts = [
            (self.on_their_way + self.begun, "to be copied"),
            (self.failed, "given up, tried again in a while"),
            (self.not_deleted, "to be deleted where they were"),
        ];
        reasons.extend(
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")),
        );
        if reasons.is_empty() {
            return None;
        }
        let error = self.last_error.as_deref().map(|error| format!(": {error}")).unwrap_or_default();
        Some(format!("{}{error}", reasons.join(", ")))
    }
}
