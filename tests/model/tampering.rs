//! Events outside of the engine: time passes, stores fail, objects are destroyed, damaged, restored, and put in the
//! wrong place.

use bytes::Bytes;
use chrono::Duration;
use diesel_async::SimpleAsyncConnection as _;
use nightferry_core::object::canary;
use nightferry_core::step::Step;
use nightferry_core::store::ObjectKey;
use nightferry_tests::harness::fault_proxy::{Fault, Match};
use nightferry_tests::harness::memory_s3::Writes;
use reqwest::Method;
use uuid::Uuid;

use crate::check::{LEASE, Map};
use crate::op::{Damage, Place, Span, Trouble, Verb};
use crate::planted::Bug;
use crate::sequence::Sequence;
use crate::stage::proxy;
use crate::truth::StoreContents;

/// More seconds than the safety age of orphans.
const DAYS: u32 = 2 * 24 * 3600;

impl Sequence<'_> {
    pub(crate) async fn pass_time(&mut self, span: Span) {
        let seconds = match span {
            Span::Short => LEASE / 4,
            Span::Lease => LEASE + 1,
            Span::Days => DAYS,
        };
        if span != Span::Short {
            // A deletion may take half the lease; then it is aborted.
            self.drop_stalled(|step| matches!(step, Step::EvictionChecked | Step::SurplusMarked)).await;
        }
        self.context.clock.advance(Duration::seconds(seconds.into()));
        if let Some(backup) = &mut self.backup {
            backup.seconds += seconds;
        }
        self.oracle.newborn.values_mut().for_each(|age| *age += seconds);
        self.make_rows_older(seconds).await;
    }

    /// Moves the times in the database, instead of its clock.
    pub(crate) async fn make_rows_older(&self, seconds: u32) {
        let earlier = |columns: &[&str]| {
            let set = columns.iter().map(|column| format!("{column} = {column} - interval '{seconds}s'"));
            set.collect::<Vec<_>>().join(", ")
        };
        let sql = format!(
            "UPDATE replicas SET {}; UPDATE leases SET {}",
            earlier(&[
                "lease_until",
                "not_before",
                "queued_at",
                "verified_at",
                "spare_since",
                "last_used_at"
            ]),
            earlier(&["until"]),
        );
        let mut conn = self.context.db.conn().await.unwrap();
        conn.batch_execute(&sql).await.unwrap();
    }

    pub(crate) fn trouble(&self, place: Place, trouble: Trouble) {
        let to = |verb| match verb {
            Verb::Any => Match::any(),
            Verb::Put => Match::method(Method::PUT),
            Verb::Get => Match::method(Method::GET),
            Verb::Head => Match::method(Method::HEAD),
            Verb::Delete => Match::deletions(),
        };
        let fault = match trouble {
            Trouble::InternalError(verb) => Fault::status(500, "InternalError").matching(to(verb)),
            Trouble::SlowDown(verb) => Fault::status(503, "SlowDown").matching(to(verb)),
            Trouble::ExpiredToken(verb) => Fault::status(403, "ExpiredToken").matching(to(verb)),
            Trouble::ResetRequest(verb) => Fault::reset_request_after(0).matching(to(verb)),
            Trouble::ResetResponse => Fault::reset_response_after(1).on(Method::GET),
            Trouble::FlipRequest => Fault::flip_request_byte(0).on(Method::PUT),
            Trouble::FlipResponse => Fault::flip_response_byte(0).on(Method::GET).key_contains("user-"),
            Trouble::HiddenError => Fault::status(200, "InternalError").matching(Match::batch_deletions()),
            Trouble::Swallow => Fault::swallow_and_acknowledge().on(Method::PUT),
            Trouble::WrongBytes | Trouble::FalseChecksums => {
                let writes = match (trouble, self.bug) {
                    (Trouble::FalseChecksums, _) => Writes::FlippedUnverified,
                    (_, Some(Bug::VerificationBelievesEverything)) => Writes::FlippedAndSworn,
                    _ => Writes::Flipped,
                };
                return match (&self.world.memory, place) {
                    (Some([local, _]), Place::Local) => local.set_writes(writes),
                    (Some([_, cloud]), Place::Cloud) => cloud.set_writes(writes),
                    (None, _) => {}
                };
            }
        };
        proxy(self.world, place).add(fault.times(2));
    }

    /// Sends canaries to a store, as a process does from time to time.
    pub(crate) async fn send_canaries(&self, place: Place) {
        canary::check(self.context.stores.get(place.name()).unwrap()).await;
    }

    pub(crate) async fn destroy(&mut self, place: Place, which: u8, damage: Damage) {
        let store = StoreContents::of(self.world, place);
        let contents = store.contents().await;
        let whole: Vec<_> = self
            .oracle
            .kept()
            .filter(|version| contents.get(&version.key) == Some(&version.sha256))
            .map(|version| (version.key.clone(), version.bytes.clone()))
            .collect();
        if whole.is_empty() {
            return;
        }
        let (key, bytes) = &whole[usize::from(which) % whole.len()];
        match damage {
            Damage::Flip if !bytes.is_empty() => {
                let mut bytes = bytes.to_vec();
                bytes[0] = !bytes[0];
                store.place(key, bytes.into(), Duration::zero()).await;
            }
            Damage::Truncate if !bytes.is_empty() => {
                store.place(key, bytes.slice(1..), Duration::zero()).await;
            }
            _ => store.remove(key).await,
        }
        self.oracle.destroyed.insert((place, key.clone()));
    }

    pub(crate) async fn give_back(&mut self, place: Place, which: u8) {
        let gone: Vec<_> = self.oracle.destroyed.iter().filter(|(at, _)| *at == place).cloned().collect();
        if gone.is_empty() {
            return;
        }
        let key = &gone[usize::from(which) % gone.len()].1;
        let version = self.oracle.versions.iter().find(|version| version.key == *key);
        let bytes = version.map(|version| version.bytes.clone()).unwrap_or_default();
        StoreContents::of(self.world, place).place(key, bytes, Duration::zero()).await;
        self.oracle.strays.insert((place, key.clone()));
        self.oracle.unlabelled.insert((place, key.clone()));
    }

    /// Writes a version to a store that should not have it.
    pub(crate) async fn surplus(&mut self, place: Place, which: u8) {
        let (store, map) = (StoreContents::of(self.world, place), Map::read(&self.context).await);
        let absent: Vec<_> =
            self.oracle.kept().filter(|version| !map.wants(version.object, place)).cloned().collect();
        if absent.is_empty() {
            return;
        }
        let version = &absent[usize::from(which) % absent.len()];
        store.place(&version.key, version.bytes.clone(), long_ago()).await;
        self.oracle.strays.insert((place, version.key.clone()));
        self.oracle.unlabelled.insert((place, version.key.clone()));
    }

    /// Writes an unknown object of this age to a store.
    pub(crate) async fn stray(&mut self, place: Place, age: Duration) {
        let key = ObjectKey::new(self.owner.0, Uuid::now_v7(), "stray").as_str().to_owned();
        StoreContents::of(self.world, place).place(&key, Bytes::from_static(b"stray"), age).await;
        self.oracle.strays.insert((place, key.clone()));
        if age.is_zero() {
            self.oracle.newborn.insert((place, key), self.age_of_new());
        }
    }

    /// The age, in seconds, that the engine computes for an object written now: a real server uses its own clock, which
    /// is not moved.
    fn age_of_new(&self) -> u32 {
        if self.world.memory.is_some() {
            return 0;
        }
        u32::try_from((self.context.clock.now() - chrono::Utc::now()).num_seconds()).unwrap_or(0)
    }
}

/// So old that its row can no longer be about to be committed.
pub(crate) fn long_ago() -> Duration {
    Duration::seconds(DAYS.into())
}
