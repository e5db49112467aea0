//! Reads other copies whose verification is too old, or whose content changed in a way that a HEAD request cannot
//! explain, before a copy is deleted because of them. Their evictions stay claimed meanwhile: the leases are renewed,
//! in one statement for all of them. A pass reads for a limited time, because other jobs wait for it.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt as _};

use super::EvictionPass;
use super::batch::{Candidate, Staying};
use super::evidence::{self, Unread};
use crate::checksum::Sha256;
use crate::context::Context;
use crate::db::replicas::{self, CheckedEviction, ToRead};
use crate::encryption::EncryptionEnvelope;
use crate::error::Result;
use crate::ids::{LeaseToken, ObjectId};
use crate::object::crypto::{self, ObjectRef};
use crate::object::pace::BandwidthLimiter;
use crate::object::verify::{self, Held, Unverified};
use crate::store::{ObjectKey, Store, StoreError};
use crate::tiering::db_outage::retry_on_db_outage;
use crate::tiering::scrub::pace::RateLimiter;

/// After this time, a pass starts to read no further copy.
const TIME_LIMIT: Duration = Duration::from_secs(20);
/// Maximum number of copies read concurrently: few, because they share the rate of scrub.
const CONCURRENCY: usize = 4;

/// The rate at which a pass reads, and its time limit, which starts with the first copy that is read.
pub(super) struct ReadBacks {
    rate: RateLimiter,
    bandwidth: BandwidthLimiter,
    until: OnceLock<Instant>,
}

impl ReadBacks {
    pub(super) fn new(context: &Context) -> Self {
        Self {
            rate: RateLimiter::new(Some(context.config.scrub.rate_bytes())),
            bandwidth: BandwidthLimiter::new(&context.config.tiering, context.clock.clone()),
            until: OnceLock::new(),
        }
    }

    /// Whether another copy may be read.
    fn has_time(&self) -> bool {
        Instant::now() < *self.until.get_or_init(|| Instant::now() + TIME_LIMIT)
    }

    async fn pass(&self, bytes: u64) {
        self.rate.spend(bytes).await;
        self.bandwidth.pass(bytes).await;
    }
}

/// A claimed copy whose other copy must be read first.
#[derive(Debug)]
pub(super) struct ToProve {
    pub(super) candidate: Candidate,
    pub(super) facts: CheckedEviction,
    pub(super) unread: Unread,
}

impl ToProve {
    pub(super) fn object_id(&self) -> ObjectId {
        self.candidate.copy.object_id
    }

    pub(super) fn into_staying(self) -> Staying {
        Staying { copy: self.candidate.copy, facts: self.facts }
    }
}

/// The result of reading.
#[derive(Debug, Default)]
pub(super) struct ReadBack {
    /// Their other copies were read and are intact.
    pub(super) proved: Vec<Candidate>,
    /// Their other copies are not intact, or could not be read.
    pub(super) unproved: Vec<Staying>,
    /// The number of the latter that could not be read.
    pub(super) failed: usize,
    /// Not read, for lack of time.
    pub(super) unread: Vec<ToProve>,
    /// Not read, because the process stops.
    pub(super) put_off: Vec<ObjectId>,
}

/// The result for one copy.
enum Reading {
    Intact,
    /// Recorded.
    Lost,
    /// Inconclusive, for this reason.
    Failed(String),
    NoTime,
}

impl EvictionPass<'_> {
    /// Reads the other copies of claimed ones.
    ///
    /// # Errors
    /// Any database error.
    pub(super) async fn read_back(&self, token: LeaseToken, items: Vec<ToProve>) -> Result<ReadBack> {
        let lease = self.context.config.tiering.lease;
        let mut held: BTreeSet<ObjectId> = items.iter().map(ToProve::object_id).collect();
        let (mut open, mut result) = (held.clone(), ReadBack::default());
        let together = self.context.config.tiering.concurrency.clamp(1, CONCURRENCY);
        let mut readings =
            pin!(stream::iter(items).map(|item| self.read_one(item)).buffer_unordered(together));
        let mut renew_at = Instant::now();
        loop {
            if renew_at <= Instant::now() {
                renew_at = Instant::now() + lease / 3;
                held = self.renew(token, &held).await?;
            }
            let (item, reading) = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    result.put_off = open.into_iter().collect();
                    return Ok(result);
                }
                read = readings.next() => match read {
                    // For the deletions that follow.
                    None => return self.renew(token, &held).await.map(|_| result),
                    Some(read) => read,
                },
                () = tokio::time::sleep_until(renew_at.into()) => continue,
            };
            let object = item.object_id();
            open.remove(&object);
            match reading {
                // Another worker has it.
                _ if !held.contains(&object) => {}
                Reading::Intact => {
                    let read = Some(item.unread);
                    result.proved.push(Candidate { read, ..item.candidate });
                }
                Reading::NoTime => result.unread.push(item),
                Reading::Lost => result.unproved.push(item.into_staying()),
                Reading::Failed(reason) => {
                    tracing::warn!(target: "nightferry::sync", %object, store = item.unread.other.store, reason, "a copy \
                        was kept because the other copy could not be read");
                    result.failed += 1;
                    result.unproved.push(item.into_staying());
                }
            }
        }
    }

    async fn read_one(&self, item: ToProve) -> (ToProve, Reading) {
        if !self.read_backs.has_time() {
            return (item, Reading::NoTime);
        }
        let reading = self.read_other(&item).await.unwrap_or_else(|error| Reading::Failed(error.to_string()));
        (item, reading)
    }

    /// Reads a copy, and again if it seems to be bad: data can also be corrupted in transit.
    async fn read_other(&self, item: &ToProve) -> Result<Reading> {
        let ToProve { candidate, facts, unread } = item;
        let other = &unread.other;
        let Some(store) = self.context.stores.get(&other.store) else {
            return Ok(Reading::Failed("its store is not configured".to_owned()));
        };
        let key = ObjectKey::parse(&candidate.copy.key)?;
        let expected = evidence::expected(facts)?;
        let right = (expected.size, expected.sha256);
        let wanted = ObjectRef { key: &key, size: expected.size, envelope: other.envelope.as_ref() };
        let envelope = parking_lot::Mutex::new(None);
        let held =
            verify::confirm_bad(right, None, || hash(store, wanted, &self.read_backs, &envelope)).await;
        let now = self.context.clock.now();
        Ok(match held {
            Ok(Held::Right) => {
                self.context.stores.health().answered(&other.store, now, None);
                let envelope = envelope.into_inner();
                self.record_reading(&key, facts, unread, envelope.as_ref()).await?;
                Reading::Intact
            }
            Ok(Held::Wrong { size, sha256 }) => {
                let found = Unverified::Wrong {
                    store: other.store.clone(),
                    what: format!("{size} bytes with SHA-256 {sha256}"),
                    wanted: format!("{} with {}", right.0, right.1),
                };
                evidence::record_loss(self.context, facts.object_id, &key, other, &found).await?;
                Reading::Lost
            }
            Ok(Held::Missing) => Reading::Failed("it is missing".to_owned()),
            Ok(Held::Unsure) => Reading::Failed("each reading returns different content".to_owned()),
            Err(error) => {
                self.context.stores.health().failed(&error, now);
                Reading::Failed(error.to_string())
            }
        })
    }

    /// Records that a copy was read and is intact, unless it was verified by another process since.
    async fn record_reading(
        &self,
        key: &ObjectKey,
        facts: &CheckedEviction,
        unread: &Unread,
        envelope: Option<&EncryptionEnvelope>,
    ) -> Result<()> {
        let recorded = unread.other.envelope.clone();
        let (key_id, wrapped_key) = recorded.map(|envelope| (envelope.key_id, envelope.wrapped_key)).unzip();
        let read = ToRead {
            object_id: facts.object_id,
            store: unread.other.store.clone(),
            verified_at: Some(unread.other.verified_at),
            key: key.as_str().to_owned(),
            size: facts.size,
            sha256: facts.sha256.clone().unwrap_or_default(),
            key_id,
            envelope: wrapped_key,
            suspect: false,
        };
        retry_on_db_outage(async || {
            replicas::mark_verified(&mut *self.context.db.conn().await?, &read, envelope).await
        })
        .await?;
        Ok(())
    }
}

/// Size and SHA-256 of the content returned by a store. Records its encryption envelope.
async fn hash(
    store: &Store,
    wanted: ObjectRef<'_>,
    pace: &ReadBacks,
    envelope: &parking_lot::Mutex<Option<EncryptionEnvelope>>,
) -> Result<(u64, Sha256), StoreError> {
    let hashed = crypto::hash(store, wanted, |bytes| pace.pass(bytes)).await?;
    *envelope.lock() = hashed.envelope;
    Ok((hashed.size, hashed.sha256))
}
