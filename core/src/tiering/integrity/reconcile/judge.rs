//! The second check of apparent differences, and their fixes. A finding is confirmed only if the database has the same
//! state before and after the store was checked: every operation changes the row of an object first.

use crate::db::enums::{ObjectState, ReplicaState};
use crate::db::replicas::{self, Facts, Known};
use crate::db::{objects, unsigned};
use crate::error::Result;
use crate::ids::ObjectId;
use crate::object::adopt::{self, Adopted, Effort};
use crate::object::identity;
use crate::object::verify::QUICK_RETRY;
use crate::retry;
use crate::step::{self, Step};
use crate::store::{Label, ListedObject, ObjectHead, ObjectKey, SNAPSHOT_PREFIX, StoreError};
use crate::tiering::db_outage::retry_on_db_outage;
use crate::tiering::repair;

use super::orphans::Orphan;
use super::report::{Event, Finding, Kind, Outcome};
use super::{NOT_PROVEN, Reconciler};

impl<T: FnMut(Event<'_>) + Send> Reconciler<'_, T> {
    /// An object is listed without a row.
    pub(super) async fn without_row(&mut self, object: &ListedObject) -> Result<()> {
        let Ok(key) = ObjectKey::parse(&object.key) else {
            // Catalogue snapshots have no row, and their own retention.
            self.summary.foreign += u64::from(!object.key.starts_with(SNAPSHOT_PREFIX));
            return Ok(());
        };
        let facts = self.facts(&key).await?;
        if !is_orphan(facts.as_ref()) {
            return Ok(());
        }
        // The only copy of a known object, whatever its age.
        if let Some(facts) = facts.filter(|facts| facts.elsewhere == 0)
            && self.adopt(facts.object_id, key.as_str(), &[]).await?
        {
            return Ok(());
        }
        let Some(head) = self.head(&key).await? else { return Ok(()) };
        let facts = self.facts(&key).await?;
        if !is_orphan(facts.as_ref()) {
            return Ok(());
        }
        let age = (self.context.clock.now() - object.last_modified).to_std().unwrap_or_default();
        let is_young = age < self.options.safety_age;
        if facts.is_none()
            && !self.is_removed(&key).await?
            && self.may_be_newer(object, &key, &head, is_young)
        {
            self.unknown(&key, &head);
            return Ok(());
        }
        if is_young {
            return Ok(());
        }
        let detail = match &facts {
            None => "no object with this key is known".to_owned(),
            Some(facts) => format!(
                "the object is known, but has no row for this store; verified copies elsewhere: {}",
                facts.elsewhere
            ),
        };
        let object = facts.map(|facts| facts.object_id);
        let orphan = Orphan { key, object, bytes: head.size, detail };
        if self.options.apply {
            return self.collect(orphan).await;
        }
        self.found_orphan(orphan, Outcome::Reported);
        Ok(())
    }

    /// Whether an object without a row may be newer than the database: it was written after the newest known object, or
    /// recently, or describes itself as written by Nightferry under this key.
    fn may_be_newer(
        &self,
        object: &ListedObject,
        key: &ObjectKey,
        head: &ObjectHead,
        is_young: bool,
    ) -> bool {
        let labelled = Label::read(&head.metadata).object;
        is_young || object.last_modified > self.newest || (labelled.is_some() && labelled == key.object())
    }

    /// Whether the object of a key was removed: what is left of it is an orphan.
    async fn is_removed(&self, key: &ObjectKey) -> Result<bool> {
        let Some(object) = key.object().map(ObjectId) else { return Ok(false) };
        let removed = retry_on_db_outage(async || {
            objects::removed_among(&mut *self.context.db.conn().await?, &[object]).await
        });
        Ok(!removed.await?.is_empty())
    }

    fn unknown(&mut self, key: &ObjectKey, head: &ObjectHead) {
        let outcome = if self.options.apply {
            Outcome::Kept("it may be newer than the database".to_owned())
        } else {
            Outcome::Reported
        };
        let detail =
            "no object with this key is known; `nightferry catalog adopt` brings it into the database";
        let finding = self.finding(Kind::Unknown, key.as_str(), detail.to_owned(), outcome);
        self.found(&Finding { bytes: head.size, ..finding });
    }

    /// Adopts intact copies of an object that the database does not expect, in any store but those in `missing`. Returns
    /// whether there are any. An error if there are none and this store could not be searched.
    pub(super) async fn adopt(&mut self, object: ObjectId, key: &str, missing: &[&str]) -> Result<bool> {
        let Adopted { stores, failed } = self.adopt_silently(object, missing).await?;
        self.tell_adopted(object, key, &stores);
        if stores.is_empty() { self.require_answer(failed).map(|()| false) } else { Ok(true) }
    }

    /// Returns the error of this store, if it is one of these.
    fn require_answer(&self, failed: Vec<StoreError>) -> Result<()> {
        let ours = failed.into_iter().find(|error| error.store() == self.store.name());
        ours.map_or(Ok(()), |error| Err(error.into()))
    }

    async fn adopt_silently(&self, object: ObjectId, missing: &[&str]) -> Result<Adopted> {
        retry_on_db_outage(async || Box::pin(adopt::adopt(self.context, object, missing, Effort::Read)).await)
            .await
    }

    fn tell_adopted(&mut self, object: ObjectId, key: &str, stores: &[String]) {
        for store in stores {
            let detail = "an intact copy that the database did not know".to_owned();
            let finding = self.finding(Kind::Adopted, key, detail, Outcome::Applied);
            self.found(&Finding { object_id: Some(object), store: store.clone(), ..finding });
        }
    }

    /// An expected copy is not in the listing.
    pub(super) async fn missing(&mut self, row: &Known) -> Result<()> {
        let Ok(key) = ObjectKey::parse(&row.key) else { return Ok(()) };
        match self.head(&key).await? {
            None => self.condemn(row, Kind::Missing, "it is missing".to_owned()).await,
            // Written after its page was listed, or listed out of order.
            Some(head) if row.stored_size() == Some(head.size) => self.acquit(row).await.map(|_| ()),
            Some(_) => self.wrong_size(row).await,
        }
    }

    /// An expected copy is listed with another size.
    pub(super) async fn wrong_size(&mut self, row: &Known) -> Result<()> {
        let Ok(key) = ObjectKey::parse(&row.key) else { return Ok(()) };
        let wanted = row.stored_size().unwrap_or(0);
        match self.head(&key).await? {
            None => self.condemn(row, Kind::Missing, "it is missing".to_owned()).await,
            Some(head) if head.size == wanted => self.acquit(row).await.map(|_| ()),
            Some(head) => {
                // It may have another form than its row says, encrypted or not, and be intact.
                if self.acquit(row).await? {
                    return Ok(());
                }
                let detail = format!("it has {} bytes instead of {wanted}", head.size);
                self.condemn(row, Kind::WrongSize, detail).await
            }
        }
    }

    /// A suspect copy is there again: it counts as a copy again if it proves right, which may have to be read. Returns
    /// whether it does; an error if this store could not be asked.
    pub(super) async fn acquit(&mut self, row: &Known) -> Result<bool> {
        if !row.suspect {
            return Ok(false);
        }
        let Adopted { mut stores, failed } = self.adopt_silently(row.object_id, &[]).await?;
        let before = stores.len();
        stores.retain(|store| store != self.store.name().as_str());
        let is_intact = stores.len() < before;
        self.tell_adopted(row.object_id, &row.key, &stores);
        if !is_intact {
            return self.require_answer(failed).map(|()| false);
        }
        let store = self.store.name().as_str();
        tracing::info!(target: "nightferry::sync", object = %row.object_id, store, "a suspect copy is intact");
        Ok(true)
    }

    /// Marks a replica as lost, or as suspect if nothing is to be fixed, if it is still the one that was checked. In a
    /// store that may not be the recorded one, everything seems to be missing, so that nothing is marked.
    async fn condemn(&mut self, row: &Known, kind: Kind, detail: String) -> Result<()> {
        let Ok(key) = ObjectKey::parse(&row.key) else { return Ok(()) };
        let still = self.facts(&key).await?.filter(|facts| {
            facts.object_state == ObjectState::Stored
                && (facts.state == Some(ReplicaState::Present) || facts.suspect)
                && facts.verified_at == row.verified_at
        });
        let Some(still) = still else { return Ok(()) };
        if still.elsewhere == 0 {
            // Before the object counts as lost, the other stores are asked.
            let name = self.store.name().to_string();
            self.adopt(row.object_id, &row.key, &[name.as_str()]).await?;
        }
        let outcome = if !identity::is_proven(self.context, self.store).await {
            Outcome::Kept(NOT_PROVEN.to_owned())
        } else if self.options.apply {
            step::reached(Step::Condemning, &row.key).await;
            let (store, seen) = (self.store.name().as_str(), row.verified_at);
            if repair::mark_lost(self.context, row.object_id, &row.key, store, &detail, seen).await?.is_none()
            {
                return Ok(());
            }
            Outcome::Applied
        } else if row.suspect {
            Outcome::Reported
        } else {
            step::reached(Step::Condemning, &row.key).await;
            let (store, seen) = (self.store.name().as_str(), row.verified_at);
            if repair::mark_suspect(self.context, row.object_id, &row.key, store, &detail, seen)
                .await?
                .is_none()
            {
                return Ok(());
            }
            Outcome::Reported
        };
        self.found(&Finding {
            object_id: Some(row.object_id),
            bytes: row.size.map_or(0, unsigned),
            ..self.finding(kind, &row.key, detail, outcome)
        });
        Ok(())
    }

    async fn head(&self, key: &ObjectKey) -> Result<Option<ObjectHead>> {
        Ok(retry::retry(&QUICK_RETRY, || self.store.head(key), StoreError::retry).await?)
    }

    pub(super) async fn facts(&self, key: &ObjectKey) -> Result<Option<Facts>> {
        retry_on_db_outage(async || {
            let mut conn = self.context.db.conn().await?;
            replicas::facts(&mut conn, key.as_str(), self.store.name().as_str()).await
        })
        .await
    }

    pub(super) fn finding(&self, kind: Kind, key: &str, detail: String, outcome: Outcome) -> Finding {
        Finding {
            kind,
            store: self.store.name().to_string(),
            key: key.to_owned(),
            object_id: None,
            bytes: 0,
            detail,
            outcome,
        }
    }
}

/// Uploads in progress and objects being removed are left to the reaper.
fn is_orphan(facts: Option<&Facts>) -> bool {
    facts.is_none_or(|facts| facts.object_state == ObjectState::Stored && facts.state.is_none())
}
