//! Ends the evictions of copies that must be kept, because their file was pinned or no other copy is intact.

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Instant;

use diesel_async::AsyncConnection;
use futures_util::stream::{self, StreamExt as _};

use super::EvictionPass;
use super::batch::Staying;
use super::evidence;
use crate::db::replicas::{self, EvictableCopy};
use crate::error::{Error, Result};
use crate::ids::{LeaseToken, ObjectId};
use crate::store::{ObjectKey, StoreRole};
use crate::tiering::db_outage::retry_on_db_outage;
use crate::tiering::repair;

impl EvictionPass<'_> {
    /// Ends evictions without deletions. If a deletion may have been attempted, the copies are verified first, however
    /// long that takes: each may be the last one. Returns for how many this was not possible now.
    pub(super) async fn keep(
        &self,
        token: LeaseToken,
        staying: Vec<Staying>,
        untouched: bool,
    ) -> Result<usize> {
        let mut open: BTreeSet<ObjectId> = staying.iter().map(|staying| staying.copy.object_id).collect();
        if open.is_empty() {
            return Ok(0);
        }
        if untouched {
            self.call_off(token, &open.into_iter().collect::<Vec<_>>()).await?;
            return Ok(0);
        }
        let tiering = &self.context.config.tiering;
        let mut proofs = pin!(
            stream::iter(staying)
                .map(|staying| self.prove_own(staying))
                .buffer_unordered(tiering.concurrency.max(1))
        );
        let (mut intact, mut failed, mut renew_at) = (Vec::new(), 0, Instant::now());
        loop {
            if renew_at <= Instant::now() {
                self.call_off(token, &std::mem::take(&mut intact)).await?;
                renew_at = Instant::now() + tiering.lease / 3;
                open = self.renew(token, &open).await?;
            }
            let (copy, proof) = tokio::select! {
                biased;
                proof = proofs.next() => match proof {
                    None => break,
                    Some(proof) => proof,
                },
                () = self.stop.cancelled() => break,
                () = tokio::time::sleep_until(renew_at.into()) => continue,
            };
            let object = copy.object_id;
            // If not, another worker has it.
            if !open.remove(&object) {
                continue;
            }
            match proof {
                Ok(true) => intact.push(object),
                Ok(false) => self.call_off_missing(token, &copy).await?,
                Err(error) => {
                    failed += 1;
                    tracing::warn!(target: "nightferry::sync", %object, %error, "cannot check a copy that must \
                        be kept; retrying");
                }
            }
        }
        self.call_off(token, &intact).await?;
        Ok(failed + open.len())
    }

    /// Renews the leases of evictions. Returns those whose lease is still held.
    pub(super) async fn renew(
        &self,
        token: LeaseToken,
        objects: &BTreeSet<ObjectId>,
    ) -> Result<BTreeSet<ObjectId>> {
        let (store, lease) = (self.store.name().as_str(), self.context.config.tiering.lease);
        let ids: Vec<ObjectId> = objects.iter().copied().collect();
        let held = retry_on_db_outage(async || {
            let mut conn = self.context.db.conn().await?;
            replicas::renew_evictions(&mut conn, store, token, &ids, lease).await
        })
        .await?;
        Ok(held.into_iter().collect())
    }

    async fn prove_own(&self, staying: Staying) -> (EvictableCopy, Result<bool>) {
        let Staying { copy, facts } = staying;
        let proof = match ObjectKey::parse(&copy.key) {
            Ok(key) => evidence::is_whole(self.store, &key, &facts).await,
            Err(error) => Err(error.into()),
        };
        (copy, proof)
    }

    /// Ends the evictions of copies that are intact.
    async fn call_off(&self, token: LeaseToken, objects: &[ObjectId]) -> Result<()> {
        if objects.is_empty() {
            return Ok(());
        }
        let store = self.store.name().as_str();
        let primary_stores = self.context.stores.names_with(StoreRole::Cloud);
        let kept = {
            let mut conn = self.context.db.conn().await?;
            replicas::cancel_evictions(&mut conn, store, &primary_stores, token, objects, true).await?
        };
        tracing::info!(target: "nightferry::sync", store, copies = kept.len(), "copies are kept: their files were \
            pinned, or no other verified copy is left, or the store with it is suspect");
        Ok(())
    }

    /// Ends the eviction of a copy that is missing: it is marked as lost.
    async fn call_off_missing(&self, token: LeaseToken, copy: &EvictableCopy) -> Result<()> {
        let store = self.store.name().as_str();
        let primary_stores = self.context.stores.names_with(StoreRole::Cloud);
        let object = copy.object_id;
        let mut conn = self.context.db.conn().await?;
        let left = conn
            .transaction(async move |conn| {
                let ours =
                    replicas::cancel_evictions(conn, store, &primary_stores, token, &[object], false).await?;
                if ours.is_empty() {
                    return Ok::<_, Error>(None);
                }
                let error =
                    "its eviction was cancelled, because the other copy was lost or its file was pinned";
                replicas::mark_lost(conn, object, store, &primary_stores, error, None).await
            })
            .await?;
        if left == Some(0) {
            repair::report_unrecoverable(object, &copy.key);
        }
        tracing::info!(target: "nightferry::sync", %object, store, "a copy that must be kept is missing");
        Ok(())
    }
}
