//! The lease of a copy as its worker sees it, and the checks before each change at the destination.
//!
//! A worker can be stopped for longer than a lease, and continue as if no time had passed: another worker has the copy
//! then, or the object was deleted. So immediately before each change at the destination the row is asked, which also
//! renews the lease, and then the lease must be current by the clock of this process, which counts from before the last
//! statement that set its expiry. For a small object, which takes one request, the clock alone is sufficient while the
//! lease is far from its expiry: nobody else can have the copy then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::CopyError;
use crate::context::Context;
use crate::db::replicas::{self, Claim};
use crate::ids::{LeaseToken, ObjectId};
use crate::store::UploadId;
use crate::tiering::db_outage::retry_on_db_outage;

/// The lease of one copy. Clones share its state, which the heartbeat of the worker updates.
#[derive(Debug, Clone)]
pub struct CopyLease(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    token: LeaseToken,
    length: Duration,
    /// A time before the last statement that set the expiry; `None` once the lease is lost. Monotonic: it continues
    /// while the process is stopped, and does not jump with the clock of the system.
    confirmed: Mutex<Option<Instant>>,
}

impl CopyLease {
    /// A lease of this length that was set after `since`.
    pub fn new(token: LeaseToken, length: Duration, since: Instant) -> Self {
        Self(Arc::new(Inner { token, length, confirmed: Mutex::new(Some(since)) }))
    }

    /// The token of the lease.
    pub fn token(&self) -> LeaseToken {
        self.0.token
    }

    /// Records that the lease was renewed by a statement that began at `at`.
    pub fn renewed(&self, at: Instant) {
        let mut confirmed = self.0.confirmed.lock();
        *confirmed = (*confirmed).max(Some(at));
    }

    /// Records that the row has another lease, or none.
    pub fn lost(&self) {
        *self.0.confirmed.lock() = None;
    }

    /// Whether the lease cannot have expired.
    fn is_current(&self) -> bool {
        self.age().is_some_and(|age| age < self.0.length)
    }

    /// Whether the lease is so far from its expiry that the row need not be asked before a small write.
    fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < self.0.length / 3)
    }

    fn age(&self) -> Option<Duration> {
        (*self.0.confirmed.lock()).map(|at| at.elapsed())
    }
}

/// Guards the changes of one copy at its destination. Cheap to clone.
#[derive(Clone)]
pub(in crate::tiering) struct WriteGuard {
    context: Context,
    object: ObjectId,
    store: String,
    lease: CopyLease,
}

impl WriteGuard {
    pub(super) fn new(context: &Context, claim: &Claim, lease: &CopyLease) -> Self {
        Self {
            context: context.clone(),
            object: claim.object_id,
            store: claim.store.clone(),
            lease: lease.clone(),
        }
    }

    pub(super) fn token(&self) -> LeaseToken {
        self.lease.token()
    }

    /// Checks the lease immediately before a write, or before an upload without a row is aborted.
    pub(super) async fn before_write(&self) -> Result<(), CopyError> {
        self.ask_row(None).await?;
        self.require_current()
    }

    /// Checks the lease immediately before a small object is written.
    pub(super) async fn before_small_write(&self) -> Result<(), CopyError> {
        if self.lease.is_fresh() { Ok(()) } else { self.before_write().await }
    }

    /// Checks the lease in the middle of a body. Only by the clock, as long as that suffices; otherwise nothing more is
    /// sent until the row confirms the lease.
    pub(super) async fn before_chunk(&self) -> Result<(), CopyError> {
        if self.lease.is_current() { Ok(()) } else { self.ask_row(None).await }
    }

    /// Checks, immediately before a multipart upload is completed or aborted, that the row still has this lease and this
    /// upload: no other upload may be touched.
    pub(super) async fn before_end_of(&self, upload: &UploadId) -> Result<(), CopyError> {
        self.ask_row(Some(upload)).await?;
        self.require_current()
    }

    /// The process may have been stopped since the row was asked.
    fn require_current(&self) -> Result<(), CopyError> {
        if self.lease.is_current() { Ok(()) } else { Err(CopyError::LeaseLost) }
    }

    async fn ask_row(&self, upload: Option<&UploadId>) -> Result<(), CopyError> {
        let length = self.context.config.tiering.lease;
        let (is_ours, at) = retry_on_db_outage(async || {
            let mut conn = self.context.db.conn().await?;
            let at = Instant::now();
            let (token, upload) = (self.lease.token(), upload.map(UploadId::as_str));
            let is_ours =
                replicas::confirm_lease(&mut conn, self.object, &self.store, token, upload, length).await?;
            Ok((is_ours, at))
        })
        .await?;
        if is_ours {
            self.lease.renewed(at);
            Ok(())
        } else {
            tracing::warn!(target: "nightferry::sync", object = %self.object, store = self.store, "the lease on a \
                copy was lost; nothing more is changed at the destination");
            Err(CopyError::LeaseLost)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_secs(60);

    fn lease(age: u64) -> CopyLease {
        let since = Instant::now().checked_sub(Duration::from_secs(age)).unwrap();
        CopyLease::new(LeaseToken::new(), LENGTH, since)
    }

    #[test]
    fn a_lease_is_current_until_it_may_have_expired() {
        assert!(lease(0).is_fresh() && lease(0).is_current());
        assert!(!lease(25).is_fresh() && lease(25).is_current());
        assert!(!lease(60).is_current());
    }

    #[test]
    fn a_renewal_counts_from_its_beginning_and_a_lost_lease_is_not_current() {
        let old = lease(61);
        let shared = old.clone();
        old.renewed(Instant::now());
        assert!(shared.is_fresh());
        old.renewed(Instant::now().checked_sub(LENGTH).unwrap());
        assert!(shared.is_fresh(), "an earlier renewal changes nothing");
        old.lost();
        assert!(!shared.is_current());
    }
}
