//! Scrub: re-reads and hashes verified copies at a bounded rate, those with the oldest verification first. A pass
//! therefore continues where the last one ended, on any worker. A copy that is wrong in two readings becomes `lost`.

pub(in crate::tiering) mod pace;
mod queue;
mod report;

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::checksum::Sha256;
use crate::context::Context;
use crate::db::replicas::{self, ToRead};
use crate::db::{restores, unsigned};
use crate::encryption::{EncryptionEnvelope, encrypted_size};
use crate::error::{Error, Result};
use crate::object::crypto::{self, ObjectRef};
use crate::object::verify::{self, Held};
use crate::object::{health, identity};
use crate::step::{self, Step};
use crate::store::{ObjectKey, Store, StoreError, StoreRole, Verdict};
use crate::stores::Probed;

use self::pace::RateLimiter;
use self::queue::Queue;
use crate::tiering::db_outage::retry_on_db_outage;
use crate::tiering::{pass, repair};

pub use report::{Ended, Event, Finding, Kind, Summary, Tally};

/// Name of the schedule row and of the pass.
pub const SCHEDULE: &str = "scrub";

/// Options of scrub.
#[derive(Debug, Clone)]
pub struct Options {
    /// Only these stores.
    pub stores: Vec<Store>,
    /// Maximum bytes per second.
    pub rate: Option<u64>,
    /// Stop after this many bytes.
    pub bytes: Option<u64>,
    /// Stop after this time.
    pub time: Option<Duration>,
    /// Copies verified within this time are skipped.
    pub min_age: Duration,
}

/// Scrubs. Returns `None`, and does nothing, while another process does. A pass interrupted by `stop` returns what it
/// has done so far.
///
/// # Errors
/// Any database error. A store that fails is skipped for the rest of the pass, which reports it.
pub async fn pass(
    context: &Context,
    options: &Options,
    tell: impl FnMut(Event<'_>) + Send,
    stop: &CancellationToken,
) -> Result<Option<Summary>> {
    let scrubber = Scrubber {
        context,
        options,
        tell,
        stop,
        began: Instant::now(),
        pace: RateLimiter::new(options.rate),
        primary_stores: context.stores.names_with(StoreRole::Cloud),
        summary: Summary::default(),
    };
    let summary = pass::run(context, SCHEDULE, Box::pin(scrubber.run())).await?;
    if summary.as_ref().is_some_and(|summary| summary.found() + summary.returned > 0) {
        repair::pass(context).await?;
    }
    Ok(summary)
}

struct Scrubber<'a, T> {
    context: &'a Context,
    options: &'a Options,
    tell: T,
    stop: &'a CancellationToken,
    began: Instant,
    pace: RateLimiter,
    /// Stores that can be primary locations.
    primary_stores: Vec<&'a str>,
    summary: Summary,
}

/// The result of reading a copy.
enum Seen {
    /// The content is correct, with this encryption envelope, if encrypted.
    Right(Option<EncryptionEnvelope>),
    Missing,
    Wrong(String),
    /// The copy is archived: reading it would cost a restore, which was not requested.
    Archived,
    /// Inconclusive: the store failed, or no two readings agree.
    Nothing(String, bool),
}

impl<T: FnMut(Event<'_>) + Send> Scrubber<'_, T> {
    async fn run(mut self) -> Result<Summary> {
        let before = retry_on_db_outage(async || {
            replicas::verified_before(&mut *self.context.db.conn().await?, self.options.min_age).await
        })
        .await?;
        let mut ended = self.unrecovered_objects().await?;
        if ended == Ended::Everything {
            ended = self.verified(before).await?;
        }
        self.summary.ended = ended;
        Ok(self.summary)
    }

    /// The content of objects without a verified copy may be back: an operator restored it, or a disk was repaired. Suspect
    /// copies are read too: they are present again, or lost.
    async fn unrecovered_objects(&mut self) -> Result<Ended> {
        for store in &self.options.stores {
            let mut after = crate::ids::ObjectId(uuid::Uuid::nil());
            loop {
                let hopes = retry_on_db_outage(async || {
                    let mut conn = self.context.db.conn().await?;
                    replicas::unrecovered_objects(&mut conn, store.name().as_str(), after).await
                })
                .await?;
                let Some(last) = hopes.last() else { break };
                after = last.object_id;
                for hope in &hopes {
                    if let Some(ended) = self.is_over() {
                        return Ok(ended);
                    }
                    self.hope(store, hope).await?;
                }
            }
        }
        Ok(Ended::Everything)
    }

    async fn hope(&mut self, store: &Store, item: &ToRead) -> Result<()> {
        let key = ObjectKey::parse(&item.key)?;
        // Most are still missing, which costs no reading.
        let size = unsigned(item.size);
        let seen = match store.head(&key).await {
            Ok(Some(head)) if head.size == size || head.size == encrypted_size(size) => {
                self.look(store, &key, item).await?
            }
            Ok(Some(head)) => Some(Seen::Wrong(format!("it has {} bytes instead of {size}", head.size))),
            Ok(None) => Some(Seen::Missing),
            Err(error) => Some(Seen::Nothing(error.to_string(), false)),
        };
        let envelope = match seen {
            Some(Seen::Right(envelope)) => envelope,
            // Others are lost already.
            Some(found @ (Seen::Missing | Seen::Wrong(_) | Seen::Nothing(..))) if item.suspect => {
                return self.settle(item, found).await;
            }
            _ => return Ok(()),
        };
        let found = retry_on_db_outage(async || {
            let mut conn = self.context.db.conn().await?;
            replicas::mark_found_again(&mut conn, item, envelope.as_ref(), &self.primary_stores).await
        });
        if found.await? {
            self.summary.returned += 1;
            tracing::info!(target: "nightferry::sync", object = %item.object_id, store = %store.name(), "recovered \
                a lost object");
        }
        Ok(())
    }

    async fn verified(&mut self, before: DateTime<Utc>) -> Result<Ended> {
        let mut queue = Queue::new(&self.options.stores, before);
        loop {
            if let Some(ended) = self.is_over() {
                return Ok(ended);
            }
            let Some((store, item)) = queue.next(self.context).await? else { return Ok(Ended::Everything) };
            let key = ObjectKey::parse(&item.key)?;
            let Some(seen) = self.look(&store, &key, &item).await? else { return Ok(Ended::Interrupted) };
            if let Seen::Nothing(_, true) = &seen {
                self.summary.unreachable.push(store.name().to_string());
                queue.leave_out(&store);
            }
            step::reached(Step::ScrubRead, key.as_str()).await;
            self.settle(&item, seen).await?;
            (self.tell)(Event::Progress(&self.summary));
        }
    }

    /// Why the pass ends; `None` while it continues.
    fn is_over(&self) -> Option<Ended> {
        if self.stop.is_cancelled() {
            return Some(Ended::Interrupted);
        }
        let spent = self.options.bytes.is_some_and(|most| self.summary.bytes >= most)
            || self.options.time.is_some_and(|most| self.began.elapsed() >= most);
        spent.then_some(Ended::Limit)
    }

    /// Reads a copy, and a second time before it is declared bad. `None` if stopped.
    async fn look(&mut self, store: &Store, key: &ObjectKey, item: &ToRead) -> Result<Option<Seen>> {
        let unusable = |_| Error::Internal(format!("object {} has an invalid SHA-256", item.object_id));
        let right: (u64, Sha256) =
            (unsigned(item.size), item.sha256.as_slice().try_into().map_err(unusable)?);
        let read = AtomicU64::new(0);
        let found = Mutex::new(None);
        let (stop, pace, envelope) = (self.stop, &self.pace, item.encryption());
        let wanted = ObjectRef { key, size: right.0, envelope: envelope.as_ref() };
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => None,
            outcome = twice(right, || hash(store, wanted, pace, &read, &found)) => Some(outcome),
        };
        let found = found.into_inner();
        let read = read.into_inner();
        self.summary.bytes = self.summary.bytes.saturating_add(read);
        metrics::counter!("nightferry_scrub_bytes_total", "store" => item.store.clone()).increment(read);
        let Some(outcome) = outcome else { return Ok(None) };
        Ok(Some(match outcome {
            Ok(Held::Right) => Seen::Right(found),
            Ok(Held::Missing) => Seen::Missing,
            Ok(Held::Wrong { size, sha256 }) => Seen::Wrong(format!(
                "it has {size} bytes with SHA-256 {sha256} instead of {} with {}",
                right.0, right.1
            )),
            Ok(Held::Unsure) => Seen::Nothing("each reading returns different content".to_owned(), false),
            Err(error) if error.is_archived() => Seen::Archived,
            Err(error) => {
                Seen::Nothing(error.to_string(), concerns_the_store(self.context, store, &error).await)
            }
        }))
    }

    /// Records the result, if the copy is still the one that was read. In a store that may not be the recorded one, a copy
    /// that is not found says nothing.
    async fn settle(&mut self, item: &ToRead, seen: Seen) -> Result<()> {
        let is_bad = matches!(seen, Seen::Missing | Seen::Wrong(_));
        let seen = if is_bad && !Box::pin(identity::is_proven_by_name(self.context, &item.store)).await {
            Seen::Nothing(format!("the store {} may not be the recorded one", item.store), false)
        } else {
            seen
        };
        let (kind, detail) = match seen {
            Seen::Right(envelope) => {
                let renewed = retry_on_db_outage(async || {
                    replicas::mark_verified(&mut *self.context.db.conn().await?, item, envelope.as_ref())
                        .await
                });
                self.summary.right += u64::from(renewed.await?);
                return Ok(());
            }
            Seen::Nothing(why, _) => {
                self.summary.unread += 1;
                tracing::warn!(target: "nightferry::sync", object = %item.object_id, store = item.store, why, "cannot \
                    read a copy; the next pass starts with it");
                return Ok(());
            }
            Seen::Archived => {
                return retry_on_db_outage(async || {
                    let mut conn = self.context.db.conn().await?;
                    restores::record_class(&mut conn, item.object_id, &item.store, Some("GLACIER")).await
                })
                .await;
            }
            Seen::Missing => (Kind::Missing, "it is missing".to_owned()),
            Seen::Wrong(detail) => (Kind::Corrupt, detail),
        };
        let (store, seen) = (item.store.as_str(), item.verified_at);
        let left = repair::mark_lost(self.context, item.object_id, &item.key, store, &detail, seen).await?;
        let Some(left) = left else { return Ok(()) };
        let finding = Finding {
            kind,
            store: item.store.clone(),
            key: item.key.clone(),
            object_id: item.object_id,
            bytes: unsigned(item.size),
            detail,
            copies_left: unsigned(left),
        };
        self.summary.count(&finding);
        metrics::counter!("nightferry_scrub_findings_total", "store" => item.store.clone(), "kind" => <&str>::from(kind))
            .increment(1);
        (self.tell)(Event::Found(&finding));
        Ok(())
    }
}

/// Whether the whole store failed, not only the read of one object.
async fn concerns_the_store(context: &Context, store: &Store, error: &StoreError) -> bool {
    if error.is_denied() {
        return context.stores.probes().probe(store, error).await == Probed::Refuses;
    }
    error.is_credentials() || error.condition().is_some() || health::is_outage(context, error).await
}

/// Reads once; a wrong result must be confirmed by a second reading.
async fn twice<Fut>(right: (u64, Sha256), mut read: impl FnMut() -> Fut) -> Result<Held, StoreError>
where
    Fut: Future<Output = Result<(u64, Sha256), StoreError>>,
{
    let first = match read().await {
        Ok(held) if held == right => return Ok(Held::Right),
        Ok(held) => Some(held),
        Err(error) if error.verdict() == Verdict::SourceMissing => None,
        Err(error) => return Err(error),
    };
    verify::confirm_bad(right, first, read).await
}

/// Size and SHA-256 of the content returned by a store, read at a limited rate. Records its encryption envelope.
async fn hash(
    store: &Store,
    wanted: ObjectRef<'_>,
    pace: &RateLimiter,
    read: &AtomicU64,
    found: &Mutex<Option<EncryptionEnvelope>>,
) -> Result<(u64, Sha256), StoreError> {
    let passed = |bytes| {
        read.fetch_add(bytes, Ordering::Relaxed);
        pace.spend(bytes)
    };
    let hashed = crypto::hash(store, wanted, passed).await?;
    *found.lock() = hashed.envelope;
    Ok((hashed.size, hashed.sha256))
}
