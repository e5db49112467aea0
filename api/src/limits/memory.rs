//! In-memory counters with bounded memory: when the table is full, idle callers are removed; if that does not free
//! enough space, new callers share counters.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::Clock as _;
use governor::middleware::StateInformationMiddleware;
use governor::nanos::Nanos;
use governor::state::StateStore;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::{RateLimiter, clock};
use nightferry_core::clock::Clock;
use parking_lot::{Mutex, MutexGuard};

use super::Key;
use super::{Rate, Verdict};

/// Shards of the table, each with its own lock.
const SHARDS: usize = 16;
/// Counters shared by callers for which there is no space.
const SHARED_COUNTERS: usize = 256;
/// Minimum interval between two sweeps of a full table, in milliseconds: a sweep visits every entry.
const SWEEP_MILLIS: u64 = 1_000;

type Limiter = RateLimiter<Key, Bounded, Ticking, StateInformationMiddleware>;

/// The counters, and the rate that they enforce.
pub(super) struct Memory {
    limiter: Limiter,
    rate: Rate,
    /// In milliseconds of the clock.
    swept: AtomicU64,
    /// Set by the table.
    full: Arc<AtomicBool>,
}

impl Memory {
    /// Tracks at most `most` callers.
    pub(super) fn new(rate: Rate, most: usize, clock: Clock) -> Self {
        let full = Arc::new(AtomicBool::new(false));
        let store = Bounded {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            strangers: (0..SHARED_COUNTERS).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
            most_in_shard: (most / SHARDS).max(1),
            full: full.clone(),
        };
        let ticking = Ticking { began: Instant::now(), first: clock.shift(), clock };
        let limiter: Limiter = RateLimiter::new(rate.quota(), store, ticking);
        Self { limiter, rate, swept: AtomicU64::new(0), full }
    }

    pub(super) fn rate(&self) -> Rate {
        self.rate
    }

    /// Counts one request.
    pub(super) fn check(&self, key: &Key) -> Verdict {
        self.sweep();
        let (remaining, retry_after) = match self.limiter.check_key(key) {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(refused) => (0, Some(refused.wait_time_from(self.limiter.clock().now()))),
        };
        let (limit, window) = (self.rate.most.get(), self.rate.period.as_secs());
        Verdict { limit, remaining, retry_after, window }
    }

    /// Removes idle callers if a shard of the table is full, at a limited rate.
    fn sweep(&self) {
        if !self.full.load(Ordering::Relaxed) {
            return;
        }
        let now = self.limiter.clock().now().as_millis().try_into().unwrap_or(u64::MAX);
        let swept = self.swept.load(Ordering::Relaxed);
        if now.saturating_sub(swept) < SWEEP_MILLIS && swept != 0 {
            return;
        }
        if self.swept.compare_exchange(swept, now.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.full.store(false, Ordering::Relaxed);
            self.limiter.retain_recent();
        }
    }
}

/// Counters by caller, bounded.
struct Bounded {
    shards: Vec<Mutex<HashMap<Key, Nanos>>>,
    strangers: Vec<Mutex<Option<Nanos>>>,
    hasher: RandomState,
    most_in_shard: usize,
    /// Whether a shard had no space for a caller since the last sweep.
    full: Arc<AtomicBool>,
}

impl Bounded {
    fn pick<'a, T>(&self, from: &'a [Mutex<T>], key: &Key) -> Option<MutexGuard<'a, T>> {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or(0);
        let place = hash.checked_rem(from.len())?;
        from.get(place).map(|found| found.lock())
    }
}

impl StateStore for Bounded {
    type Key = Key;

    fn measure_and_replace<T, F, E>(&self, key: &Key, f: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        if let Some(mut shard) = self.pick(&self.shards, key) {
            let before = shard.get(key).copied();
            if before.is_some() || shard.len() < self.most_in_shard {
                let (outcome, after) = f(before)?;
                shard.insert(key.clone(), after);
                return Ok(outcome);
            }
        }
        self.full.store(true, Ordering::Relaxed);
        let Some(mut stranger) = self.pick(&self.strangers, key) else {
            return f(None).map(|(done, _)| done);
        };
        let (outcome, after) = f(*stranger)?;
        *stranger = Some(after);
        Ok(outcome)
    }
}

impl ShrinkableKeyedStateStore<Key> for Bounded {
    fn retain_recent(&self, drop_below: Nanos) {
        for shard in &self.shards {
            shard.lock().retain(|_, state| *state > drop_below);
        }
    }

    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Monotonic time that tests can advance with the domain's clock.
struct Ticking {
    began: Instant,
    first: chrono::Duration,
    clock: Clock,
}

impl clock::Clock for Ticking {
    type Instant = Duration;

    fn now(&self) -> Duration {
        let moved = (self.clock.shift() - self.first).to_std().unwrap_or_default();
        self.began.elapsed() + moved
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    fn key(number: u128) -> Key {
        Key::Network(IpAddr::V6(Ipv6Addr::from(number << 64)))
    }

    fn allowed(memory: &Memory, key: &Key, tries: usize) -> usize {
        (0..tries).filter(|_| memory.check(key).retry_after.is_none()).count()
    }

    #[test]
    fn each_caller_has_a_separate_limit_that_recovers_over_time() {
        let clock = Clock::system();
        let memory = Memory::new(Rate::new(60, Duration::from_secs(60)), 1000, clock.clone());
        assert_eq!(allowed(&memory, &key(1), 100), 60);
        assert_eq!(
            memory.check(&key(2)),
            Verdict { limit: 60, remaining: 59, retry_after: None, window: 60 }
        );
        let refused = memory.check(&key(1));
        assert!(refused.retry_after.unwrap() <= Duration::from_secs(1), "{refused:?}");
        clock.advance(chrono::Duration::seconds(10));
        assert_eq!(allowed(&memory, &key(1), 100), 10);
        clock.advance(chrono::Duration::minutes(5));
        assert_eq!(allowed(&memory, &key(1), 100), 60);
    }

    #[test]
    fn memory_is_bounded_for_any_number_of_callers() {
        let clock = Clock::system();
        let memory = Memory::new(Rate::new(10, Duration::from_secs(3600)), 1600, clock.clone());
        assert_eq!(allowed(&memory, &key(0), 3), 3);
        let through = (1..100_000).filter(|number| memory.check(&key(*number)).retry_after.is_none()).count();
        assert!(memory.limiter.len() <= 1600, "{}", memory.limiter.len());
        // Known callers, and the shared counters.
        assert!(through <= 1600 + SHARED_COUNTERS * 10, "{through}");
        assert_eq!(allowed(&memory, &key(0), 100), 7, "existing callers keep their remaining limit");
        clock.advance(chrono::Duration::hours(2));
        assert_eq!(allowed(&memory, &key(200_000), 100), 10, "inactive callers are removed");
        assert!(memory.limiter.len() < 1600);
    }
}
