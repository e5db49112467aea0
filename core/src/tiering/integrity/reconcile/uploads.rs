//! Unfinished multipart uploads without a row: their parts use storage and appear in no listing.

use crate::db::replicas;
use crate::error::Result;
use crate::object::identity;
use crate::retry::{self, RetryPolicy};
use crate::store::{LIST_LIMIT, ListedUpload, ObjectKey, StoreError, Verdict};
use crate::tiering::db_outage::retry_on_db_outage;

use super::report::{Event, Finding, Kind, Outcome};
use super::{NOT_PROVEN, Reconciler};

impl<T: FnMut(Event<'_>) + Send> Reconciler<'_, T> {
    /// Returns whether it reached the end. A store whose access key may not list uploads needs a lifecycle rule for
    /// them.
    pub(super) async fn stale_uploads(&mut self) -> Result<bool> {
        let store = self.store;
        let mut after = None;
        loop {
            let list = || store.list_multipart_uploads_page("", after.as_ref(), LIST_LIMIT);
            let page = match retry::retry(&RetryPolicy::default(), list, StoreError::retry).await {
                Err(error) if error.verdict() == Verdict::Permanent => {
                    tracing::warn!(target: "nightferry::sync", store = %store.name(), %error, "cannot \
                        list unfinished uploads");
                    return Ok(true);
                }
                listed => listed?,
            };
            for upload in page.uploads {
                if self.stop.is_cancelled() {
                    return Ok(false);
                }
                self.summary.uploads += 1;
                self.upload(&upload).await?;
            }
            after = page.next;
            if after.is_none() {
                return Ok(true);
            }
        }
    }

    async fn upload(&mut self, upload: &ListedUpload) -> Result<()> {
        let age = (self.context.clock.now() - upload.initiated).to_std().unwrap_or_default();
        // Keys of another form do not belong to Nightferry.
        let Ok(key) = ObjectKey::parse(&upload.key) else { return Ok(()) };
        if age < self.context.config.uploads.session_ttl {
            return Ok(());
        }
        let known = retry_on_db_outage(async || {
            let mut conn = self.context.db.conn().await?;
            let store = self.store.name().as_str();
            replicas::knows_upload(&mut conn, key.as_str(), store, upload.upload_id.as_str()).await
        });
        if known.await? {
            return Ok(());
        }
        let outcome = if !self.options.apply {
            Outcome::Reported
        } else if identity::is_proven(self.context, self.store).await {
            match self.store.abort_multipart(&key, &upload.upload_id).await {
                Ok(()) => Outcome::Applied,
                Err(error) => Outcome::Kept(error.to_string()),
            }
        } else {
            Outcome::Kept(NOT_PROVEN.to_owned())
        };
        let detail = format!("the multipart upload {} started {}", upload.upload_id, upload.initiated);
        let finding: Finding = self.finding(Kind::StaleUpload, key.as_str(), detail, outcome);
        self.found(&finding);
        Ok(())
    }
}
