//! The deletion of orphans, many at a time: the merge finds them one after the other and collects them. Each is checked
//! again immediately before it is deleted.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::db::enums::ReplicaState;
use crate::db::replicas::{self, EvictableCopy};
use crate::db::signed;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId};
use crate::object::verify::QUICK_RETRY;
use crate::object::{delete, identity};
use crate::retry;
use crate::step::{self, Step};
use crate::store::{ObjectKey, StoreError, Verdict};
use crate::tiering::db_outage::retry_on_db_outage;
use crate::tiering::evict::EvictionPass;

use super::report::{Event, Finding, Kind, Outcome};
use super::{NOT_PROVEN, Reconciler};

/// Maximum number of orphans deleted together: as many as evictions.
const TOGETHER: usize = 250;

/// An orphan that is to be deleted.
#[derive(Debug)]
pub(super) struct Orphan {
    pub(super) key: ObjectKey,
    /// The object, if it is known and belongs elsewhere.
    pub(super) object: Option<ObjectId>,
    pub(super) bytes: u64,
    pub(super) detail: String,
}

impl<T: FnMut(Event<'_>) + Send> Reconciler<'_, T> {
    /// Deletes an orphan, later, together with others.
    pub(super) async fn collect(&mut self, orphan: Orphan) -> Result<()> {
        self.orphans.push(orphan);
        if self.orphans.len() >= TOGETHER { self.delete_orphans().await } else { Ok(()) }
    }

    /// Deletes the collected orphans.
    pub(super) async fn delete_orphans(&mut self) -> Result<()> {
        let orphans = std::mem::take(&mut self.orphans);
        if orphans.is_empty() {
            return Ok(());
        }
        if !identity::is_proven(self.context, self.store).await {
            self.keep_orphans(orphans, NOT_PROVEN);
            return Ok(());
        }
        let (known, unknown): (Vec<Orphan>, Vec<Orphan>) =
            orphans.into_iter().partition(|orphan| orphan.object.is_some());
        self.delete_unknown(unknown).await?;
        self.delete_surplus(known).await
    }

    /// Reports the collected orphans, which are not deleted.
    pub(super) fn leave_orphans(&mut self) {
        let orphans = std::mem::take(&mut self.orphans);
        self.keep_orphans(orphans, "the pass was stopped");
    }

    /// The objects have no rows, and keys are never reused.
    async fn delete_unknown(&mut self, orphans: Vec<Orphan>) -> Result<()> {
        if orphans.is_empty() {
            return Ok(());
        }
        let known =
            retry_on_db_outage(async || replicas::any_known(&mut *self.context.db.conn().await?).await);
        if !known.await? {
            let why = "the database contains no objects: is it the right one, and was it restored?";
            self.keep_orphans(orphans, why);
            return Ok(());
        }
        let mut still = Vec::with_capacity(orphans.len());
        for orphan in orphans {
            // Otherwise it was adopted in the meantime.
            if self.facts(&orphan.key).await?.is_none() {
                still.push(orphan);
            }
        }
        for orphan in &still {
            step::reached(Step::OrphanSeen, orphan.key.as_str()).await;
        }
        let keys = still.iter().map(|orphan| orphan.key.clone()).collect();
        let failed = self.delete_all(keys).await;
        for orphan in still {
            let outcome = match failed.get(&orphan.key) {
                None => Outcome::Applied,
                Some(error) => Outcome::Kept(error.to_string()),
            };
            self.found_orphan(orphan, outcome);
        }
        Ok(())
    }

    /// The objects are known and belong elsewhere. They are marked first, so that they are not copied here in the
    /// meantime, and deleted only if another copy is found intact. Otherwise they are verified and kept with rows of
    /// their own. If that is not possible now, the lease of the mark expires, and the next eviction finishes it.
    async fn delete_surplus(&mut self, orphans: Vec<Orphan>) -> Result<()> {
        let (token, lease) = (LeaseToken::new(), self.context.config.tiering.lease);
        let (mut marked, mut copies) = (Vec::with_capacity(orphans.len()), Vec::with_capacity(orphans.len()));
        for orphan in orphans {
            let Some(object) = orphan.object else { continue };
            let is_marked = {
                let mut conn = self.context.db.conn().await?;
                let store = self.store.name().as_str();
                replicas::mark_surplus(&mut conn, object, store, self.worker, token, lease).await?
            };
            if !is_marked {
                let why = "there is no other verified copy, so this one is not deleted";
                self.found_orphan(orphan, Outcome::Kept(why.to_owned()));
                continue;
            }
            step::reached(Step::SurplusMarked, orphan.key.as_str()).await;
            copies.push(EvictableCopy {
                object_id: object,
                key: orphan.key.as_str().to_owned(),
                size: signed(orphan.bytes),
                at: self.context.clock.now(),
            });
            marked.push(orphan);
        }
        if copies.is_empty() {
            return Ok(());
        }
        let eviction = EvictionPass::new(self.context, self.store, Vec::new(), self.worker, self.stop);
        eviction.evict(token, copies, false).await?;
        for orphan in marked {
            let outcome = match self.facts(&orphan.key).await?.and_then(|facts| facts.state) {
                None => Outcome::Applied,
                Some(ReplicaState::Evicting) => {
                    Outcome::Kept("could not be deleted now; will be retried".to_owned())
                }
                Some(_) => Outcome::Kept("no other copy was found intact, so this one is kept".to_owned()),
            };
            self.found_orphan(orphan, outcome);
        }
        Ok(())
    }

    /// Deletes objects, with a few attempts while their errors may pass. Returns those that are left, with the reason.
    async fn delete_all(&self, mut keys: Vec<ObjectKey>) -> BTreeMap<ObjectKey, Arc<StoreError>> {
        let together = self.context.config.tiering.concurrency;
        let (mut left, mut attempts) = (BTreeMap::new(), 0);
        loop {
            let failed = delete::delete_all(self.store, &keys, together).await;
            attempts += 1;
            let (passing, lasting): (BTreeMap<_, _>, BTreeMap<_, _>) =
                failed.into_iter().partition(|(_, error)| error.verdict() == Verdict::Transient);
            left.extend(lasting);
            if passing.is_empty() || attempts >= QUICK_RETRY.max_attempts {
                left.extend(passing);
                return left;
            }
            keys = passing.into_keys().collect();
            tokio::time::sleep(retry::delay(attempts, QUICK_RETRY.initial, QUICK_RETRY.cap)).await;
        }
    }

    fn keep_orphans(&mut self, orphans: Vec<Orphan>, why: &str) {
        for orphan in orphans {
            self.found_orphan(orphan, Outcome::Kept(why.to_owned()));
        }
    }

    pub(super) fn found_orphan(&mut self, orphan: Orphan, outcome: Outcome) {
        let Orphan { key, object, bytes, detail } = orphan;
        let finding = self.finding(Kind::Orphan, key.as_str(), detail, outcome);
        self.found(&Finding { object_id: object, bytes, ..finding });
    }
}
