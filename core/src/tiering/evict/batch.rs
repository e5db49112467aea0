//! The deletions of claimed copies, in waves. The rows of a wave are checked in one statement; then there is a HEAD
//! request for another copy of each object, twice `tiering.concurrency` at once; then the rows are checked again, and what was
//! found intact is deleted with one request. A store that does not take such requests gets waves of
//! `tiering.concurrency`, and a request for each copy (`delete.rs`).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};

use super::EvictionPass;
use super::delete::Proven;
use super::evidence::{self, Evidence, Unread};
use super::read_back::{ReadBack, ToProve};
use crate::db::replicas::{self, CheckedEviction, EvictableCopy, EvictionCheck, OtherCopy};
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId};
use crate::object::identity;
use crate::step::{self, Step};
use crate::store::{DELETE_LIMIT, ObjectKey, Scope, Store, StoreRole};
use crate::tiering::db_outage::retry_on_db_outage;

/// Maximum time between the first check of the rows and a deletion. The requests usually take a fraction of a second; a
/// slower copy is checked again.
const MAX_CHECK_AGE: Duration = Duration::from_secs(10);
/// Maximum number of copies deleted with one request, unless `tiering.concurrency` is larger: as many as are claimed.
const MAX_WAVE: usize = 250;

/// HEAD requests at once, as a multiple of `tiering.concurrency`: they need neither memory nor bandwidth. With as many as
/// there are transfers, evictions over a link of 40 ms are slower than copies.
const HEADS_PER_TRANSFER: usize = 2;

/// The result of a batch.
#[derive(Debug, Default, Clone, Copy)]
pub(in crate::tiering) struct Done {
    pub(in crate::tiering) evicted: usize,
    /// Their bytes.
    pub(in crate::tiering) bytes: i64,
    /// Deferred: still marked, or cannot be verified now.
    pub(in crate::tiering) left: usize,
    /// Deferred: another copy must be read first, for which there was no time.
    pub(in crate::tiering) unread: usize,
}

impl Done {
    pub(super) fn include(&mut self, other: Self) {
        self.evicted += other.evicted;
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.left += other.left;
        self.unread += other.unread;
    }
}

/// A claimed copy.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) copy: EvictableCopy,
    /// Another copy that was read under this claim and is intact.
    pub(super) read: Option<Unread>,
}

/// A claimed copy that must be kept.
#[derive(Debug)]
pub(super) struct Staying {
    pub(super) copy: EvictableCopy,
    pub(super) facts: CheckedEviction,
}

/// Copies checked together.
pub(super) struct Wave<'c> {
    /// The stores whose copies count.
    usable: Vec<&'c Store>,
    /// No further copy is looked for afterwards, and what was found is deleted without waiting for the slower ones.
    half: Instant,
    /// Nothing is deleted afterwards without another check. By the clock of this process, which continues while it is
    /// stopped.
    until: Instant,
    /// When the attempt ends: well before the lease.
    pub(super) over: Instant,
    /// Whether it consists of one copy, which waits for no other one.
    pub(super) is_of_one: bool,
}

impl Wave<'_> {
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.until
    }
}

/// Outcome for one copy.
enum Outcome {
    /// This other copy was found intact.
    Proven(ObjectKey, OtherCopy),
    /// The file was pinned, or there is no other intact copy.
    Stays,
    /// The other copy could not be checked: this one stays until it can be.
    Unverified,
    /// The other copy must be read first.
    Unread(Unread),
    /// The check of the rows is too old, or there was no time for the request.
    Late,
    /// Failed; the copy keeps its mark.
    Failed,
}

/// What was done with some copies, and what is to be recorded.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    pub(super) deleted: Vec<ObjectId>,
    pub(super) bytes: i64,
    put_off: Vec<ObjectId>,
    staying: Vec<Staying>,
    to_prove: Vec<ToProve>,
    pub(super) left: usize,
}

impl EvictionPass<'_> {
    /// Deletes a batch and removes the rows of deleted copies. Failed ones keep their mark and are retried when the
    /// lease expires; those that were not started, for lack of time, can be retried immediately. `untouched` means that
    /// no deletion has been attempted before.
    pub(in crate::tiering) async fn evict(
        &self,
        token: LeaseToken,
        batch: Vec<EvictableCopy>,
        untouched: bool,
    ) -> Result<Done> {
        step::reached(Step::EvictionMarked, "").await;
        let candidates = batch.into_iter().map(|copy| Candidate { copy, read: None }).collect();
        let mut attempt = self.attempt(token, candidates).await;
        let to_prove = std::mem::take(&mut attempt.to_prove);
        let mut done = self.record(token, attempt, untouched).await?;
        if to_prove.is_empty() {
            return Ok(done);
        }
        let ReadBack { proved, unproved, failed, mut unread, put_off } =
            self.read_back(token, to_prove).await?;
        let mut attempt = self.attempt(token, proved).await;
        // Its object was replaced after it was read.
        unread.append(&mut attempt.to_prove);
        attempt.left += failed;
        attempt.staying.extend(unproved);
        attempt.put_off.extend(put_off);
        done.unread = unread.len();
        if untouched {
            attempt.staying.extend(unread.into_iter().map(ToProve::into_staying));
        } else {
            // The next pass continues with them: a deletion may have been attempted.
            let ids = unread.iter().map(ToProve::object_id);
            let later = Attempt { put_off: ids.collect(), ..Attempt::default() };
            self.record_deletions(token, &later).await?;
        }
        done.include(self.record(token, attempt, untouched).await?);
        Ok(done)
    }

    /// Deletes the copies that may be deleted.
    async fn attempt(&self, token: LeaseToken, candidates: Vec<Candidate>) -> Attempt {
        let over = Instant::now() + self.context.config.tiering.lease / 2;
        let together = self.context.config.tiering.concurrency.max(1);
        let mut attempt = Attempt::default();
        let mut waiting = VecDeque::from(candidates);
        while !waiting.is_empty() {
            let most = if self.store.deletes_in_batches() { together.max(MAX_WAVE) } else { together };
            let size = most.min(DELETE_LIMIT).min(waiting.len());
            let wave: Vec<Candidate> = waiting.drain(..size).collect();
            let is_over = self.stop.is_cancelled() || Instant::now() >= over;
            // A store that is no longer the one that was claimed from: checked for each wave, at the cost of a lookup.
            if is_over || !identity::is_proven(self.context, self.store).await {
                attempt.put_off.extend(wave.iter().map(|candidate| candidate.copy.object_id));
                continue;
            }
            let of_wave = wave.len();
            match self.wave(token, wave, over, &mut attempt).await {
                Ok(late) => waiting.extend(late),
                Err(error) => {
                    attempt.left += of_wave;
                    tracing::warn!(target: "nightferry::sync", copies = of_wave, %error, "cannot check copies \
                        before their eviction; retrying");
                }
            }
        }
        attempt
    }

    /// Checks copies and deletes those that may be deleted. Returns those that must be checked again. Evictions that
    /// another worker holds are left to it.
    async fn wave(
        &self,
        token: LeaseToken,
        candidates: Vec<Candidate>,
        over: Instant,
        attempt: &mut Attempt,
    ) -> Result<Vec<Candidate>> {
        for candidate in &candidates {
            step::reached(Step::EvictionBegun, &candidate.copy.key).await;
        }
        let started = Instant::now();
        let ids: Vec<ObjectId> = candidates.iter().map(|candidate| candidate.copy.object_id).collect();
        let checked = self.check(token, &ids).await?;
        let others = checked.iter().flat_map(|facts| &facts.others);
        let names: BTreeSet<String> = others.map(|other| other.store.clone()).collect();
        let usable = evidence::usable(self.context, names).await;
        let limit = self.least().min(MAX_CHECK_AGE);
        let (half, until, is_of_one) = (started + limit / 2, started + limit, ids.len() == 1);
        let wave = Wave { usable, half, until, over, is_of_one };
        let mut facts: BTreeMap<ObjectId, CheckedEviction> =
            checked.into_iter().map(|facts| (facts.object_id, facts)).collect();
        let ours: Vec<(Candidate, CheckedEviction)> = candidates
            .into_iter()
            .filter_map(|candidate| facts.remove(&candidate.copy.object_id).map(|facts| (candidate, facts)))
            .collect();
        let heads = self.context.config.tiering.concurrency.max(1) * HEADS_PER_TRANSFER;
        let mut outcomes = pin!(
            stream::iter(ours.into_iter().enumerate())
                .map(|(place, (candidate, facts))| self.look_by(&wave, place < heads, candidate, facts))
                .buffer_unordered(heads)
        );
        let (mut proven, mut late, mut is_half) = (Vec::new(), Vec::new(), false);
        loop {
            let next = tokio::select! {
                biased;
                next = outcomes.next() => next,
                () = tokio::time::sleep_until(wave.half.into()), if !is_half => {
                    is_half = true;
                    late.extend(self.delete(token, &wave, std::mem::take(&mut proven), attempt).await);
                    continue;
                }
            };
            let Some((candidate, facts, outcome)) = next else { break };
            match outcome {
                Outcome::Proven(key, other) => proven.push(Proven { candidate, key, other }),
                Outcome::Stays => attempt.staying.push(Staying { copy: candidate.copy, facts }),
                Outcome::Unverified => {
                    attempt.left += 1;
                    attempt.staying.push(Staying { copy: candidate.copy, facts });
                }
                Outcome::Unread(unread) => attempt.to_prove.push(ToProve { candidate, facts, unread }),
                Outcome::Late => late.push(candidate),
                Outcome::Failed => attempt.left += 1,
            }
        }
        late.extend(self.delete(token, &wave, proven, attempt).await);
        Ok(late)
    }

    /// Checks the rows of claimed copies.
    pub(super) async fn check(
        &self,
        token: LeaseToken,
        objects: &[ObjectId],
    ) -> Result<Vec<CheckedEviction>> {
        let check = EvictionCheck {
            store: self.store.name().as_str(),
            moving_to: &self.moving_to,
            token,
            least: self.least(),
            max_age: self.context.config.tiering.evidence_max_age,
        };
        replicas::check_evictions(&mut *self.context.db.conn().await?, check, objects).await
    }

    /// How long the lease must last when the rows are checked.
    fn least(&self) -> Duration {
        self.context.config.tiering.lease / 4
    }

    /// Like [`Self::look`], until the attempt is over. A copy that is not one of the `first` is not looked for in the
    /// second half of the wave.
    async fn look_by(
        &self,
        wave: &Wave<'_>,
        first: bool,
        candidate: Candidate,
        facts: CheckedEviction,
    ) -> (Candidate, CheckedEviction, Outcome) {
        if !first && Instant::now() >= wave.half {
            return (candidate, facts, Outcome::Late);
        }
        let object = candidate.copy.object_id;
        let looked = tokio::time::timeout_at(wave.over.into(), self.look(wave, &candidate, &facts)).await;
        let outcome = match looked {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                tracing::warn!(target: "nightferry::sync", %object, %error, "cannot evict a copy; retrying");
                Outcome::Failed
            }
            Err(_) => {
                tracing::warn!(target: "nightferry::sync", %object, "evicting a copy took too long; retrying");
                Outcome::Failed
            }
        };
        (candidate, facts, outcome)
    }

    /// Looks for another intact copy of an object.
    async fn look(&self, wave: &Wave<'_>, candidate: &Candidate, facts: &CheckedEviction) -> Result<Outcome> {
        if facts.others.is_empty() {
            return Ok(Outcome::Stays);
        }
        let (store, object) = (self.store.name().as_str(), facts.object_id);
        let key = ObjectKey::parse(&candidate.copy.key)?;
        let read = candidate.read.as_ref();
        let other = match evidence::seek(self.context, &wave.usable, &key, facts, read).await? {
            Evidence::Seen(other) => other,
            Evidence::Absent => return Ok(Outcome::Stays),
            Evidence::Unread(unread) => return Ok(Outcome::Unread(unread)),
            Evidence::Unknown(error) => {
                // A failure of a single object must not delay the following ones.
                let concerns_the_store = error.as_ref().is_none_or(|error| error.scope() == Scope::Store);
                let reason = error.map_or_else(
                    || "its store is not healthy, or not the recorded one".to_owned(),
                    |error| error.to_string(),
                );
                let others: Vec<&str> = facts.others.iter().map(|other| other.store.as_str()).collect();
                tracing::warn!(target: "nightferry::sync", %object, store, ?others, reason, "a local copy was \
                    kept because the other copy could not be checked");
                return Ok(if concerns_the_store { Outcome::Unverified } else { Outcome::Stays });
            }
        };
        step::reached(Step::EvictionChecked, &candidate.copy.key).await;
        // The process may have been stopped, or the other store is slow: another worker may have the lease now.
        Ok(if wave.is_over() { Outcome::Late } else { Outcome::Proven(key, other) })
    }

    /// Records what was done, and ends the evictions of copies that must be kept.
    async fn record(&self, token: LeaseToken, attempt: Attempt, untouched: bool) -> Result<Done> {
        let evicted = self.record_deletions(token, &attempt).await?;
        let left = attempt.left + attempt.put_off.len();
        let kept_marks = self.keep(token, attempt.staying, untouched).await?;
        Ok(Done { evicted, bytes: attempt.bytes, left: left + kept_marks, unread: 0 })
    }

    /// Removes the rows of deleted copies and releases those that were put off. Returns the number of the former.
    async fn record_deletions(&self, token: LeaseToken, attempt: &Attempt) -> Result<usize> {
        step::reached(Step::EvictionForgetting, "").await;
        let store = self.store.name().as_str();
        let primary_stores = self.context.stores.names_with(StoreRole::Cloud);
        retry_on_db_outage(async || {
            let mut conn = self.context.db.conn().await?;
            replicas::release_evictions(&mut conn, store, token, &attempt.put_off).await?;
            replicas::finish_evictions(&mut conn, store, &primary_stores, token, &attempt.deleted).await
        })
        .await
    }
}
