//! The circuit breaker of a worker towards a store: when everything fails, it is the store that is ill, not the
//! files, and their attempts must not be burnt on it.

use std::time::{Duration, Instant};

use crate::retry;

/// Consecutive failures after which the store counts as down.
const FAILURES_TO_OPEN: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Counts consecutive outages.
#[derive(Debug, Default)]
pub struct Breaker {
    consecutive: u32,
    probes: u32,
    closed_at: Option<Instant>,
}

impl Breaker {
    /// Something worked.
    pub fn succeeded(&mut self) {
        *self = Self::default();
    }

    /// The store itself failed. Answers whether it counts as down from now on.
    pub fn failed(&mut self, now: Instant) -> bool {
        self.consecutive = self.consecutive.saturating_add(1);
        if self.consecutive >= FAILURES_TO_OPEN {
            self.open(now);
        }
        self.is_open()
    }

    /// The store was seen to be down.
    pub fn open(&mut self, now: Instant) {
        self.closed_at.get_or_insert(now + retry::interval(0, FIRST_PAUSE, LONGEST_PAUSE));
    }

    /// Whether the store counts as down: nothing new is claimed for it.
    pub fn is_open(&self) -> bool {
        self.closed_at.is_some()
    }

    /// When the store is to be probed next.
    pub fn probe_at(&self) -> Option<Instant> {
        self.closed_at
    }

    /// A probe failed: wait longer.
    pub fn probe_failed(&mut self, now: Instant) {
        self.probes = self.probes.saturating_add(1);
        self.closed_at = Some(now + retry::interval(self.probes, FIRST_PAUSE, LONGEST_PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_only_when_nothing_works_any_more() {
        let mut breaker = Breaker::default();
        let now = Instant::now();
        for _ in 0..FAILURES_TO_OPEN - 1 {
            assert!(!breaker.failed(now));
        }
        breaker.succeeded();
        assert!(!breaker.failed(now));
        for _ in 0..FAILURES_TO_OPEN {
            breaker.failed(now);
        }
        assert!(breaker.is_open());
        let first = breaker.probe_at().unwrap();
        breaker.probe_failed(now);
        assert!(breaker.probe_at().unwrap() >= first);
        breaker.succeeded();
        assert!(!breaker.is_open());
    }
}
