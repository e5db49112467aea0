//! The deletions of a wave: with one request if there are several and the store takes batches, otherwise with one request
//! for each, concurrently. A copy counts as deleted only if the store says so of its key; every other one keeps its mark,
//! and is checked anew when its lease expires.

use std::collections::BTreeMap;
use std::fmt;

use futures_util::stream::{self, StreamExt as _};

use super::EvictionPass;
use super::batch::{Attempt, Candidate, Wave};
use crate::db::replicas::{CheckedEviction, OtherCopy};
use crate::ids::{LeaseToken, ObjectId};
use crate::object::delete;
use crate::step::{self, Step};
use crate::store::{BatchDeletion, ObjectKey, StoreError};

/// A claimed copy of an object of which another copy was found intact just now.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) candidate: Candidate,
    pub(super) key: ObjectKey,
    /// The copy that was found.
    pub(super) other: OtherCopy,
}

/// What became of one copy.
enum Deleted {
    Yes,
    /// The copy keeps its mark.
    Failed(StoreError),
    /// There was no response in time; the copy keeps its mark.
    Unknown,
    /// Nothing was sent.
    Late,
}

impl EvictionPass<'_> {
    /// Deletes copies. Those of a wave have waited for each other, so their rows are checked again: the lease, pins, and
    /// the other copies. Returns those that must be checked again from the start.
    pub(super) async fn delete(
        &self,
        token: LeaseToken,
        wave: &Wave<'_>,
        proven: Vec<Proven>,
        attempt: &mut Attempt,
    ) -> Vec<Candidate> {
        let (ready, mut late) = match self.recheck(token, wave, proven, attempt).await {
            (ready, late) if ready.is_empty() || !wave.is_over() => (ready, late),
            (ready, mut late) => {
                late.extend(ready.into_iter().map(|proven| proven.candidate));
                return late;
            }
        };
        if ready.len() > 1 && self.store.deletes_in_batches() {
            late.extend(self.delete_together(wave, ready, attempt).await);
            return late;
        }
        let together = self.context.config.tiering.concurrency.max(1);
        let deleted: Vec<(Proven, Deleted)> = stream::iter(ready)
            .map(|proven| self.delete_one(wave, proven))
            .buffer_unordered(together)
            .collect()
            .await;
        for (proven, deleted) in deleted {
            match deleted {
                Deleted::Yes => attempt.add_deleted(&proven),
                Deleted::Failed(error) => attempt.add_failed(&proven, &error),
                Deleted::Unknown => attempt.add_failed(&proven, &"it took too long"),
                Deleted::Late => late.push(proven.candidate),
            }
        }
        late
    }

    /// Separates copies that may still be deleted, because of the copy that was found, from those that must be checked
    /// anew. Those that another worker has are left to it.
    async fn recheck(
        &self,
        token: LeaseToken,
        wave: &Wave<'_>,
        proven: Vec<Proven>,
        attempt: &mut Attempt,
    ) -> (Vec<Proven>, Vec<Candidate>) {
        if proven.is_empty() || wave.is_of_one {
            return (proven, Vec::new());
        }
        let copies = proven.len();
        let ids: Vec<ObjectId> = proven.iter().map(|proven| proven.candidate.copy.object_id).collect();
        let checked = match tokio::time::timeout_at(wave.over.into(), self.check(token, &ids)).await {
            Ok(Ok(checked)) => checked,
            Ok(Err(error)) => {
                attempt.left += copies;
                tracing::warn!(target: "nightferry::sync", copies, %error, "cannot check copies before their \
                    eviction; retrying");
                return (Vec::new(), Vec::new());
            }
            Err(_) => {
                attempt.left += copies;
                tracing::warn!(target: "nightferry::sync", copies, "checking copies took too long; retrying");
                return (Vec::new(), Vec::new());
            }
        };
        let checked: BTreeMap<ObjectId, CheckedEviction> =
            checked.into_iter().map(|facts| (facts.object_id, facts)).collect();
        let (mut ready, mut late) = (Vec::with_capacity(copies), Vec::new());
        for proven in proven {
            let Some(now) = checked.get(&proven.candidate.copy.object_id) else { continue };
            if now.others.contains(&proven.other) {
                ready.push(proven);
            } else {
                late.push(proven.candidate);
            }
        }
        (ready, late)
    }

    async fn delete_together(
        &self,
        wave: &Wave<'_>,
        ready: Vec<Proven>,
        attempt: &mut Attempt,
    ) -> Vec<Candidate> {
        let (store, copies) = (self.store.name().as_str(), ready.len());
        let keys: Vec<ObjectKey> = ready.iter().map(|proven| proven.key.clone()).collect();
        let response = tokio::time::timeout_at(wave.over.into(), self.store.delete_batch(&keys)).await;
        let mut failed = match response {
            Ok(Ok(BatchDeletion::Done(failed))) => failed,
            Ok(Ok(BatchDeletion::Refused(error))) => {
                if let Some(error) = error {
                    delete::log_refusal(self.store, &error);
                }
                return ready.into_iter().map(|proven| proven.candidate).collect();
            }
            Ok(Err(error)) => {
                attempt.left += copies;
                tracing::warn!(target: "nightferry::sync", store, copies, %error, "cannot evict copies; retrying");
                return Vec::new();
            }
            Err(_) => {
                attempt.left += copies;
                tracing::warn!(target: "nightferry::sync", store, copies, "evicting copies took too long; retrying");
                return Vec::new();
            }
        };
        for proven in ready {
            if let Some(error) = failed.remove(&proven.key) {
                attempt.add_failed(&proven, &error);
                continue;
            }
            attempt.add_deleted(&proven);
            step::reached(Step::EvictionDeleted, proven.key.as_str()).await;
        }
        Vec::new()
    }

    async fn delete_one(&self, wave: &Wave<'_>, proven: Proven) -> (Proven, Deleted) {
        if wave.is_over() {
            return (proven, Deleted::Late);
        }
        let deleted = match tokio::time::timeout_at(wave.over.into(), self.store.delete(&proven.key)).await {
            Ok(Ok(())) => {
                step::reached(Step::EvictionDeleted, proven.key.as_str()).await;
                Deleted::Yes
            }
            Ok(Err(error)) => Deleted::Failed(error),
            Err(_) => Deleted::Unknown,
        };
        (proven, deleted)
    }
}

impl Attempt {
    fn add_deleted(&mut self, proven: &Proven) {
        let copy = &proven.candidate.copy;
        self.bytes = self.bytes.saturating_add(copy.size);
        self.deleted.push(copy.object_id);
    }

    fn add_failed(&mut self, proven: &Proven, error: &impl fmt::Display) {
        self.left += 1;
        let object = proven.candidate.copy.object_id;
        tracing::warn!(target: "nightferry::sync", %object, %error, "cannot evict a copy; retrying");
    }
}
