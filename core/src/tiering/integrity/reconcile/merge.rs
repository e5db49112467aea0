//! Merges the listing with the replica rows, both in byte order of the keys and both page by page. Only reports
//! candidates; [`super::judge`] decides. A store that lists in another order therefore costs requests, but never causes
//! a wrong finding.

use std::collections::VecDeque;

use crate::db::enums::ReplicaState;
use crate::db::replicas::{self, Known};
use crate::error::{Error, Result};
use crate::retry::{self, RetryPolicy};
use crate::store::{CANARY_PREFIX, IDENTITY_KEY, LIST_LIMIT, ListedObject, Scope, StoreError};
use crate::tiering::db_outage::retry_on_db_outage;

use super::Reconciler;
use super::report::Event;

/// A stream of pages.
struct Pages<T> {
    page: VecDeque<T>,
    after: String,
    over: bool,
}

impl<T> Pages<T> {
    const fn new() -> Self {
        Self { page: VecDeque::new(), after: String::new(), over: false }
    }

    /// Whether the next page is required.
    fn is_dry(&self) -> bool {
        self.page.is_empty() && !self.over
    }
}

impl<T: FnMut(Event<'_>) + Send> Reconciler<'_, T> {
    /// Returns whether it reached the end.
    pub(super) async fn merge(&mut self) -> Result<bool> {
        let (mut listed, mut known) = (Pages::new(), Pages::new());
        loop {
            let stop = self.stop;
            tokio::select! {
                biased;
                () = stop.cancelled() => {
                    self.leave_orphans();
                    return Ok(false);
                }
                filled = self.fill(&mut listed, &mut known) => filled?,
            }
            let order = match (listed.page.front(), known.page.front()) {
                (None, None) => return self.delete_orphans().await.map(|()| true),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (Some(listed), Some(known)) => listed.key.as_bytes().cmp(known.key.as_bytes()),
            };
            let object = if order.is_le() { listed.page.pop_front() } else { None };
            let row = if order.is_ge() { known.page.pop_front() } else { None };
            let key = object.as_ref().map(|object| object.key.clone());
            let key = key.or_else(|| row.as_ref().map(|row| row.key.clone())).unwrap_or_default();
            match self.compare(object, row).await {
                Err(Error::Store(error)) => self.unchecked(&key, error).await?,
                compared => compared?,
            }
        }
    }

    /// The check of one object failed. The pass continues with the next one and reports it, unless the store as a whole
    /// fails: then its listing fails too, or its credentials are rejected.
    async fn unchecked(&mut self, key: &str, error: StoreError) -> Result<()> {
        if error.is_credentials() || (error.scope() == Scope::Store && self.store.check().await.is_err()) {
            return Err(error.into());
        }
        tracing::warn!(target: "nightferry::sync", store = %self.store.name(), key, %error, "cannot check an \
            object; the pass continues");
        self.summary.unchecked += 1;
        self.summary.last_error = Some(error.to_string());
        Ok(())
    }

    async fn fill(&mut self, listed: &mut Pages<ListedObject>, known: &mut Pages<Known>) -> Result<()> {
        if listed.is_dry() {
            let after = (!listed.after.is_empty()).then_some(listed.after.as_str());
            let list = || self.store.list("", after, LIST_LIMIT);
            let page = retry::retry(&RetryPolicy::default(), list, StoreError::retry).await?;
            listed.page = page.objects.into();
            listed.over = page.next.is_none();
            listed.after = page.next.unwrap_or_default();
            (self.tell)(Event::Progress(&self.summary));
        }
        if known.is_dry() {
            let store = self.store.name().as_str();
            let rows = retry_on_db_outage(async || {
                replicas::known_after(&mut *self.context.db.conn().await?, store, &known.after).await
            })
            .await?;
            known.over = rows.is_empty();
            known.after = rows.last().map(|row| row.key.clone()).unwrap_or_default();
            known.page = rows.into();
        }
        Ok(())
    }

    /// For one key: the listed object, and the row.
    async fn compare(&mut self, object: Option<ListedObject>, row: Option<Known>) -> Result<()> {
        let object =
            object.filter(|object| object.key != IDENTITY_KEY && !object.key.starts_with(CANARY_PREFIX));
        if let Some(object) = &object {
            self.summary.objects += 1;
            self.summary.bytes = self.summary.bytes.saturating_add(object.size);
        }
        match (object, row) {
            (Some(object), Some(row)) if row.is_expected() => {
                if row.stored_size() != Some(object.size) {
                    self.wrong_size(&row).await
                } else if row.suspect {
                    self.acquit(&row).await.map(|_| ())
                } else {
                    Ok(())
                }
            }
            (Some(object), None | Some(Known { state: None, .. })) => self.without_row(&object).await,
            (None, Some(row)) if row.is_expected() => self.missing(&row).await,
            // A restored database does not know later copies.
            (object, Some(row)) if is_open(&row) && (object.is_some() || !row.elsewhere) => {
                self.adopt(row.object_id, &row.key, &[]).await?;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// Whether the row says that the copy is still to be made, or was lost. Suspect copies are expected instead.
fn is_open(row: &Known) -> bool {
    matches!(row.state, Some(ReplicaState::Queued | ReplicaState::Failed | ReplicaState::Lost))
}
