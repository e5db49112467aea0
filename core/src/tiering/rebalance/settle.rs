//! The ends of moves: what has arrived is deleted where it was, and what is not wanted any more is taken back.

use diesel_async::AsyncConnection;

use super::found::Sorted;
use super::pass::Pass;
use crate::db::listen;
use crate::db::replicas::{self, BrokenOff, Departure};
use crate::error::{Error, Result};
use crate::ids::{LeaseToken, ObjectId};
use crate::store::{ObjectKey, Store, StoreRole, UploadId};

/// Replicas deleted under one lease.
const DELETED_TOGETHER: usize = 100;

impl Pass<'_> {
    /// Does it.
    pub(super) async fn settle(&mut self, from: &Store, to: &Store, sorted: Sorted) -> Result<()> {
        let Sorted { sound, doubtful, staying, unproved, broken_off, due } = sorted;
        {
            let mut conn = self.context.db.conn().await?;
            self.found.let_stay += replicas::let_stay(&mut conn, from.name().as_str(), &staying).await?;
            if !due.is_empty() {
                self.found.begun += replicas::retry_given_up(&mut conn, to.name().as_str(), &due).await?;
                listen::notify(&mut conn, listen::RUNS, "rebalance").await?;
            }
        }
        self.abort(to, broken_off).await?;
        for some in unproved.chunks(DELETED_TOGETHER) {
            self.give_up(from, to, some).await?;
        }
        // The last copy that is near is not taken away while nobody knows whether the other one can be read.
        if !self.are_well(&[from.name().as_str(), to.name().as_str()]) {
            self.found.on_their_way += sound.len() + doubtful.len();
            return Ok(());
        }
        for (ids, untouched) in [(sound, true), (doubtful, false)] {
            for some in ids.chunks(DELETED_TOGETHER) {
                if self.stop.is_cancelled() {
                    return Ok(());
                }
                self.delete(from, to, some, untouched).await?;
            }
        }
        Ok(())
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
}
