//! The clock, controllable by tests. Nothing else in the domain reads the system clock for decisions.
//!
//! What several processes share is decided by the clock of the database. [`Clock::now`] is that time: it runs on from
//! the last comparison with the database ([`Clock::compare`]), and a change of this machine's clock does not affect it.
//! `docs/adr/0033-database-clock.md` explains why.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::Instant;

use chrono::{DateTime, Duration, Utc};

/// A process whose clock differs from that of the database by more than this leads nothing that is shared.
pub const MAX_DIFFERENCE: Duration = Duration::minutes(1);

/// A smaller difference is not corrected: it would be mostly the error of the measurement.
const MIN_CORRECTION: Duration = Duration::milliseconds(500);

/// The time source of one process. Clones share it.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// When the clock was created, by the clock of this machine.
    began: DateTime<Utc>,
    /// The same moment; unlike the clock of the machine, this one never jumps.
    began_at: Instant,
    /// What is added for the time of the database, in milliseconds.
    correction: AtomicI64,
    /// By how much a test has moved the time of all: [`Clock::advance`].
    moved: AtomicI64,
    /// By how much the clock of this machine is wrong in a test: [`Clock::jump`].
    wrong: AtomicI64,
    /// What [`Clock::news`] returned last.
    told: AtomicBool,
}

impl Default for Clock {
    fn default() -> Self {
        Self::wrong_by(Duration::zero())
    }
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// The clock of a machine that is wrong by `by`, compared to the system's clock. For tests.
    pub fn wrong_by(by: Duration) -> Self {
        Self(Arc::new(Inner {
            began: Utc::now() + by,
            began_at: Instant::now(),
            correction: AtomicI64::new(0),
            moved: AtomicI64::new(0),
            wrong: AtomicI64::new(by.num_milliseconds()),
            told: AtomicBool::new(false),
        }))
    }

    /// The current time of the database, in UTC; that of this machine until the first comparison.
    pub fn now(&self) -> DateTime<Utc> {
        self.unmoved() + self.shift()
    }

    /// The time of the database without [`Self::advance`].
    fn unmoved(&self) -> DateTime<Utc> {
        self.uncorrected() + milliseconds(&self.0.correction)
    }

    fn uncorrected(&self) -> DateTime<Utc> {
        self.0.began + self.0.began_at.elapsed()
    }

    /// By how much [`Self::advance`] has moved the time.
    pub fn shift(&self) -> Duration {
        milliseconds(&self.0.moved)
    }

    /// Moves the time of this clock and all its clones by `by` (backwards if negative), as if the clock of the database
    /// had moved too. For tests.
    pub fn advance(&self, by: Duration) {
        self.0.moved.fetch_add(by.num_milliseconds(), Ordering::Relaxed);
    }

    /// Makes the clock of this machine jump by `by`, unlike that of the database. For tests.
    pub fn jump(&self, by: Duration) {
        self.0.wrong.fetch_add(by.num_milliseconds(), Ordering::Relaxed);
    }

    /// Compares with the time that the database has just returned, within `round_trip`, and follows it.
    pub fn compare(&self, database: DateTime<Utc>, round_trip: std::time::Duration) {
        let round_trip = Duration::from_std(round_trip).unwrap_or(Duration::MAX);
        // The database read its clock at some moment of the round trip.
        if (database - self.unmoved()).abs() > MIN_CORRECTION.max(round_trip) {
            let correction = (database - self.uncorrected()).num_milliseconds();
            self.0.correction.store(correction, Ordering::Relaxed);
        }
    }

    /// How far the clock of this machine is ahead of the database; negative if it is behind. Zero until the first
    /// comparison.
    pub fn ahead(&self) -> Duration {
        Utc::now() + milliseconds(&self.0.wrong) - self.unmoved()
    }

    /// Whether the clock of this machine differs too much from that of the database. Such a process leads nothing that
    /// is shared: it takes no tick of a schedule, and cleans up nothing.
    pub fn is_wrong(&self) -> bool {
        self.ahead().abs() > MAX_DIFFERENCE
    }

    /// [`Self::is_wrong`], if that has changed since the last call.
    pub fn news(&self) -> Option<bool> {
        let wrong = self.is_wrong();
        (self.0.told.swap(wrong, Ordering::Relaxed) != wrong).then_some(wrong)
    }
}

fn milliseconds(value: &AtomicI64) -> Duration {
    Duration::milliseconds(value.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSTANTLY: std::time::Duration = std::time::Duration::ZERO;

    fn is_about(time: DateTime<Utc>, expected: DateTime<Utc>) -> bool {
        (time - expected).abs() < Duration::seconds(10)
    }

    #[test]
    fn the_time_is_that_of_the_database() {
        for by in [Duration::days(2), Duration::hours(-5)] {
            let clock = Clock::wrong_by(by);
            assert!(is_about(clock.now(), Utc::now() + by));
            clock.compare(Utc::now(), INSTANTLY);
            assert!(is_about(clock.now(), Utc::now()));
            assert!((clock.ahead() - by).abs() < Duration::seconds(10), "{}", clock.ahead());
            assert!(clock.is_wrong());
        }
    }

    #[test]
    fn a_jump_of_the_machine_does_not_change_the_time() {
        let clock = Clock::system();
        clock.compare(Utc::now(), INSTANTLY);
        assert_eq!((clock.is_wrong(), clock.news()), (false, None));
        clock.jump(Duration::minutes(65));
        assert!(is_about(clock.now(), Utc::now()));
        assert_eq!((clock.is_wrong(), clock.news(), clock.news()), (true, Some(true), None));
        clock.jump(Duration::minutes(-65));
        assert_eq!((clock.is_wrong(), clock.news(), clock.news()), (false, Some(false), None));
    }

    #[test]
    fn a_small_difference_or_a_slow_answer_changes_nothing() {
        let clock = Clock::system();
        let before = clock.uncorrected();
        clock.compare(before + Duration::milliseconds(300), INSTANTLY);
        clock.compare(before + Duration::seconds(20), std::time::Duration::from_secs(30));
        assert_eq!(clock.0.correction.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_test_moves_the_time_of_all() {
        let clock = Clock::system();
        clock.advance(Duration::days(1));
        clock.compare(Utc::now(), INSTANTLY);
        assert!(is_about(clock.now(), Utc::now() + Duration::days(1)));
        assert!(!clock.is_wrong(), "the database moved too");
    }
}
