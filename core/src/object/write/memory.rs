//! The memory in which uploads buffer bytes that cannot be sent yet: one pool of fixed size for all uploads.
//!
//! An upload of known length never waits for memory: bytes that do not fit are passed through as they arrive. An upload
//! of unknown length needs memory for a whole part, so it queues with the others of its kind. The queue is fair: each
//! owner gets at most half of the pool, an upload that is too slow while others wait is aborted, and waiting has a
//! timeout.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::{Config, MEBIBYTE};
use crate::error::{Error, Result};
use crate::ids::UserId;

/// Minimum size of a part except the last (S3 `UploadPart`).
pub(super) const MIN_PART_SIZE: u64 = 5 * MEBIBYTE;
/// Size of buffered parts. Not larger than needed: with 8 MiB, eight concurrent uploads took the API beyond 64 MiB.
const BUFFERED_PART: u64 = MIN_PART_SIZE;
/// Maximum waiting time of an upload.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Grace time before a slow upload can be aborted.
const SLOW_GRACE: Duration = Duration::from_secs(5);
/// Minimum rate in bytes per second while other uploads wait.
const MIN_RATE: u64 = 64 * 1024;
/// Interval at which a waiting upload signals slow ones.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(250);
/// The `Retry-After` for an upload that found no room.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The memory pool. Cheap to clone.
#[derive(Debug, Clone)]
pub struct UploadMemory(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    /// For all owners.
    shared: Arc<FairQueue>,
    /// One per owner with active uploads.
    owners: Mutex<HashMap<UserId, Weak<FairQueue>>>,
    /// Total KiB.
    size: u32,
    /// KiB reserved for uploads that require memory.
    kept_back: u32,
    /// Size of a buffered part in bytes.
    part: u64,
}

impl UploadMemory {
    /// A pool with all memory free.
    pub fn new(config: &Config) -> Self {
        let size = kib(config.uploads.buffer_pool_bytes());
        // Large enough for the maximum file size with fewer than 10,000 parts.
        let part = BUFFERED_PART.max(config.server.max_file_size_bytes() / 9_000);
        let kept_back = (size / 2).max(kib(part)).min(size);
        Self(Arc::new(Pool { shared: FairQueue::new(size), owners: Mutex::default(), size, kept_back, part }))
    }

    /// Size of a buffered part in bytes.
    pub(super) fn part(&self) -> u64 {
        self.0.part
    }

    /// Room for `bytes`, if there is more than the reserve for uploads that require memory.
    pub(super) fn spare(&self, bytes: u64) -> Option<Room> {
        let (pool, wanted) = (&self.0.shared.room, kib(bytes));
        let enough = usize::try_from(wanted.saturating_add(self.0.kept_back)).ok()?;
        if pool.available_permits() < enough {
            return None;
        }
        pool.clone().try_acquire_many_owned(wanted).ok().map(Room::Surplus)
    }

    /// Waits for room for a whole part, before its first byte: uploads that each hold a part of what they need could
    /// deadlock.
    ///
    /// # Errors
    /// [`Error::UploadsBusy`] after the maximum waiting time.
    pub(super) async fn turn(&self, owner: UserId) -> Result<Room> {
        let wanted = kib(self.0.part).min(self.0.size);
        let (own, shared) = (self.queue_of(owner), self.0.shared.clone());
        let entering = async {
            let permits = [own.enter(wanted).await?, shared.enter(wanted).await?];
            let queues = [own.clone(), shared.clone()];
            Ok(Room::Turn { queues, began: Instant::now(), _permits: permits })
        };
        tokio::time::timeout(MAX_WAIT, entering).await.unwrap_or_else(|_| Err(busy()))
    }

    fn queue_of(&self, owner: UserId) -> Arc<FairQueue> {
        let mut owners = self.0.owners.lock();
        owners.retain(|_, queue| queue.strong_count() > 0);
        if let Some(queue) = owners.get(&owner).and_then(Weak::upgrade) {
            return queue;
        }
        let queue = FairQueue::new(self.0.kept_back);
        owners.insert(owner, Arc::downgrade(&queue));
        queue
    }
}

/// Room for buffered bytes, released when dropped.
#[derive(Debug)]
pub(super) enum Room {
    /// Not needed by other uploads.
    Surplus(#[allow(dead_code, reason = "held")] OwnedSemaphorePermit),
    /// For one part of an upload of unknown length.
    Turn { queues: [Arc<FairQueue>; 2], began: Instant, _permits: [OwnedSemaphorePermit; 2] },
}

impl Room {
    /// The result of `arriving`, unless the upload is aborted for being slow.
    ///
    /// # Errors
    /// [`Error::UploadsBusy`], and the errors of `arriving`.
    pub(super) async fn while_in_time<T>(
        &self,
        received: u64,
        arriving: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        tokio::select! {
            biased;
            arrived = arriving => arrived,
            () = self.is_over(received) => Err(busy()),
        }
    }

    /// Completes if other uploads wait and this one, with `received` bytes of its part, is too slow.
    async fn is_over(&self, received: u64) {
        let Self::Turn { queues: [own, shared], began, .. } = self else {
            return std::future::pending().await;
        };
        let earned = Duration::from_millis(received.saturating_mul(1000) / MIN_RATE);
        tokio::time::sleep_until(*began + SLOW_GRACE + earned).await;
        tokio::select! {
            () = own.called() => {}
            () = shared.called() => {}
        }
    }
}

/// A FIFO queue for room.
#[derive(Debug)]
pub(super) struct FairQueue {
    room: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Signals a slow upload.
    call: Notify,
}

impl FairQueue {
    fn new(size: u32) -> Arc<Self> {
        let room = Arc::new(Semaphore::new(usize::try_from(size).unwrap_or(Semaphore::MAX_PERMITS)));
        Arc::new(Self { room, waiting: AtomicUsize::new(0), call: Notify::new() })
    }

    async fn enter(&self, wanted: u32) -> Result<OwnedSemaphorePermit> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let mut entering = pin!(self.room.clone().acquire_many_owned(wanted));
        loop {
            tokio::select! {
                biased;
                entered = &mut entering => {
                    return entered.map_err(|_| Error::Internal("the pool of upload memory is closed".to_owned()));
                }
                () = tokio::time::sleep(SIGNAL_INTERVAL) => self.call.notify_one(),
            }
        }
    }

    /// Completes when a waiting upload signals. Signals of uploads that no longer wait are ignored.
    async fn called(&self) {
        loop {
            self.call.notified().await;
            if self.waiting.load(Ordering::Relaxed) > 0 {
                return;
            }
        }
    }
}

/// Counted as waiting until dropped.
struct Waiting<'l>(&'l AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Bytes in the unit of the pool, KiB.
fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

/// The error of an upload that found no room in time, or is aborted for being slow.
pub(super) fn busy() -> Error {
    Error::UploadsBusy { retry_after: RETRY_AFTER }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn pool(mebibytes: u64) -> UploadMemory {
        let (size, part) = (kib(mebibytes * MEBIBYTE), BUFFERED_PART);
        let kept_back = (size / 2).max(kib(part));
        UploadMemory(Arc::new(Pool {
            shared: FairQueue::new(size),
            owners: Mutex::default(),
            size,
            kept_back,
            part,
        }))
    }

    async fn silence(turn: &Room, received: u64) -> Result<()> {
        turn.while_in_time(received, std::future::pending()).await
    }

    #[tokio::test(start_paused = true)]
    async fn one_owner_never_has_more_than_half() {
        let (pool, ann) = (pool(32), UserId::new());
        let turns =
            [pool.turn(ann).await.unwrap(), pool.turn(ann).await.unwrap(), pool.turn(ann).await.unwrap()];
        let began = Instant::now();
        assert!(matches!(pool.turn(ann).await, Err(Error::UploadsBusy { .. })));
        assert_eq!(began.elapsed(), MAX_WAIT);
        for _ in 0..3 {
            drop(pool.turn(UserId::new()).await.unwrap());
        }
        assert!(began.elapsed() < MAX_WAIT * 2);
        drop(turns);
        pool.turn(ann).await.unwrap();
        assert_eq!(pool.0.shared.room.available_permits(), 32 * 1024);
        assert_eq!(pool.0.owners.lock().len(), 1, "finished uploads leave no entry");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_upload_is_aborted_only_while_others_wait() {
        let (pool, slow) = (pool(8), UserId::new());
        let turn = pool.turn(slow).await.unwrap();
        let hour = Duration::from_secs(3600);
        assert!(tokio::time::timeout(hour, silence(&turn, 1)).await.is_err(), "no upload waits");
        let began = Instant::now();
        let holder = async {
            assert!(matches!(silence(&turn, 1).await, Err(Error::UploadsBusy { .. })));
            drop(turn);
        };
        let (turn, ()) = tokio::join!(pool.turn(UserId::new()), holder);
        assert!(turn.is_ok() && began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fast_upload_keeps_its_turn() {
        let (pool, owner) = (pool(8), UserId::new());
        let turn = pool.turn(owner).await.unwrap();
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.turn(owner).await.map(drop) }
        });
        let enough = (MAX_WAIT.as_secs() + 1) * MIN_RATE;
        assert!(tokio::time::timeout(MAX_WAIT, silence(&turn, enough)).await.is_err());
        assert!(matches!(waiting.await.unwrap(), Err(Error::UploadsBusy { .. })), "no upload waits forever");
        assert!(tokio::time::timeout(MAX_WAIT, silence(&turn, 1)).await.is_err(), "an old call is none");
    }

    #[test]
    fn the_reserve_of_the_pool_is_kept_for_required_memory() {
        let pool = pool(8);
        let first = pool.spare(2 * MEBIBYTE).unwrap();
        assert!(pool.spare(2 * MEBIBYTE).is_none());
        drop(first);
        assert!(pool.spare(3 * MEBIBYTE).is_some());
        assert!(pool.spare(u64::MAX).is_none());
    }
}
