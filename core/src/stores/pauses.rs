//! Stores that are paused because of a condition of the whole store: a skewed clock, throttling, a quota, a redirect.
//! No copy to or from a paused store is started. A pause ends by itself; while the condition continues, the next pause
//! is longer.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::ids::ObjectId;
use crate::retry::{self, MAX_RETRY_AFTER};
use crate::store::Condition;

/// Minimum and maximum length of a pause that the store does not determine itself.
const MIN_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);
/// After this many conditions met by one copy, each followed by successes of others, the object is to blame.
const MAX_STRIKES: u32 = 10;
/// Maximum number of objects remembered for one store.
const MAX_REMEMBERED: usize = 10_000;

/// A store, and whether the requests change something in it: a full store still serves reads.
pub(super) type Use<'u> = (&'u str, bool);

/// The pauses of all stores. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Pauses(Arc<Mutex<BTreeMap<(String, bool), Pause>>>);

#[derive(Debug, Default)]
struct Pause {
    until: Option<Instant>,
    since: Option<DateTime<Utc>>,
    /// When the first of several pauses without a success in between began.
    begun: Option<DateTime<Utc>>,
    condition: Option<Condition>,
    reason: String,
    /// Number of pauses since the last success outside of a pause.
    level: u32,
    /// Number of successful copies.
    successes: u64,
    /// How often a copy met a condition although others succeeded since, and the number of successes then.
    strikes: HashMap<ObjectId, (u32, u64)>,
}

impl Pause {
    fn left(&self, now: Instant) -> Option<Duration> {
        self.until.and_then(|until| until.checked_duration_since(now)).filter(|left| !left.is_zero())
    }
}

/// A paused store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// Since when.
    pub since: DateTime<Utc>,
    /// The error that caused it.
    pub reason: String,
}

impl Pauses {
    /// Pauses a store, at least for `least`. Many copies can meet the condition at once: during a pause, further ones
    /// only prolong it if the store asked for more time. Returns the time until the end of the pause.
    pub(super) fn pause(
        &self,
        (store, writes): Use<'_>,
        condition: Condition,
        now: DateTime<Utc>,
        reason: &str,
        least: Duration,
    ) -> Duration {
        let (mut pauses, at) = (self.0.lock(), Instant::now());
        let pause = pauses.entry((store.to_owned(), writes)).or_default();
        let least = least.min(MAX_RETRY_AFTER);
        let left = pause.left(at);
        let length = match left {
            Some(left) => left.max(least),
            None => retry::interval(pause.level, MIN_PAUSE, MAX_PAUSE).max(least),
        };
        if left.is_none() {
            // After a time in which the store was not used, it is another condition.
            let continues = pause.until.is_some_and(|until| at.saturating_duration_since(until) < MAX_PAUSE);
            pause.begun = pause.begun.filter(|_| continues).or(Some(now));
            pause.level = pause.level.saturating_add(1);
            (pause.since, pause.condition) = (Some(now), Some(condition));
            reason.clone_into(&mut pause.reason);
        }
        pause.until = Some(at + length);
        length
    }

    /// Records a successful copy to the store (`writes`) or from it. A copy to the store was also verified there.
    pub(super) fn served(&self, (store, writes): Use<'_>) {
        let mut pauses = self.0.lock();
        for kind in [false, true].into_iter().filter(|kind| writes || !kind) {
            let pause = pauses.entry((store.to_owned(), kind)).or_default();
            pause.successes = pause.successes.saturating_add(1);
            if pause.left(Instant::now()).is_none() {
                (pause.level, pause.until, pause.since, pause.begun) = (0, None, None, None);
            }
        }
    }

    /// Records that the copy of an object met a condition. Returns whether the store is to blame, not the object: a
    /// store that serves all others each time is not.
    pub(super) fn strike(&self, (store, writes): Use<'_>, object: ObjectId) -> bool {
        let mut pauses = self.0.lock();
        let pause = pauses.entry((store.to_owned(), writes)).or_default();
        if pause.strikes.len() >= MAX_REMEMBERED {
            pause.strikes.clear();
        }
        let successes = pause.successes;
        let (strikes, seen) = pause.strikes.entry(object).or_insert((0, successes));
        if *seen < successes {
            (*strikes, *seen) = (strikes.saturating_add(1), successes);
        }
        *strikes < MAX_STRIKES
    }

    /// The stores that are paused now.
    pub(super) fn all(&self) -> BTreeMap<String, Paused> {
        let (known, now) = (self.0.lock(), Instant::now());
        let current = known.iter().filter(|(_, pause)| pause.left(now).is_some());
        let described = current.filter_map(|((store, _), pause)| {
            Some((store.clone(), Paused { since: pause.since?, reason: pause.reason.clone() }))
        });
        described.collect()
    }

    /// The stores that are paused for a condition that concerns reads and deletions too: a full store serves them, and
    /// deletions are what ends its pause.
    pub(super) fn unusable(&self) -> Vec<String> {
        self.paused_for(|condition| condition != Some(Condition::Quota))
    }

    /// The stores that are paused because they are full.
    pub(super) fn full(&self) -> Vec<String> {
        self.paused_for(|condition| condition == Some(Condition::Quota))
    }

    fn paused_for(&self, which: impl Fn(Option<Condition>) -> bool) -> Vec<String> {
        let (known, now) = (self.0.lock(), Instant::now());
        let current = known.iter().filter(|(_, pause)| pause.left(now).is_some() && which(pause.condition));
        current.map(|((store, _), _)| store.clone()).collect()
    }

    /// The stores that are full or redirect, and accepted nothing for at least this time, with the reason.
    pub(super) fn blocked(&self, now: DateTime<Utc>, least: Duration) -> Vec<(String, String)> {
        let (known, at) = (self.0.lock(), Instant::now());
        let is_blocked = |pause: &Pause| {
            matches!(pause.condition, Some(Condition::Quota | Condition::Redirect))
                && pause.left(at).is_some()
                && pause.begun.is_some_and(|begun| (now - begun).to_std().is_ok_and(|age| age >= least))
        };
        let blocked = known.iter().filter(|((_, writes), pause)| *writes && is_blocked(pause));
        blocked.map(|((store, _), pause)| (store.clone(), pause.reason.clone())).collect()
    }

    /// Whether the store is one of [`Self::unusable`].
    pub(super) fn is_unusable(&self, store: &str) -> bool {
        self.unusable().iter().any(|name| name == store)
    }

    /// Ends all pauses.
    pub(super) fn end_all(&self) {
        for pause in self.0.lock().values_mut() {
            (pause.until, pause.since, pause.begun) = (None, None, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_is_longer_while_the_condition_continues_and_short_again_after_a_success() {
        let pauses = Pauses::default();
        let pause = |least| {
            let least = Duration::from_secs(least);
            pauses.pause(("a", true), Condition::Throttled, Utc::now(), "slow down", least).as_secs_f64()
        };
        assert!((0.9..=1.0).contains(&pause(0)));
        assert!(pause(0) <= 1.0, "many copies meet the same condition");
        assert!((29.0..=30.0).contains(&pause(30)), "the store asked for it");
        pauses.end_all();
        assert!((1.9..=2.0).contains(&pause(0)), "the second pause");
        pauses.served(("a", true));
        pauses.end_all();
        assert!((3.9..=4.0).contains(&pause(0)), "a success during the pause began before it");
        pauses.end_all();
        pauses.served(("a", false));
        assert!((7.9..=8.0).contains(&pause(0)), "a store that serves reads does not accept writes");
        pauses.end_all();
        pauses.served(("a", true));
        assert!((0.9..=1.0).contains(&pause(0)));
        assert_eq!(pauses.all().keys().collect::<Vec<_>>(), ["a"]);
        let day = Duration::from_secs(86_400);
        let long = pauses.pause(("b", true), Condition::Throttled, Utc::now(), "x", day);
        assert!(long <= MAX_RETRY_AFTER);
    }

    #[test]
    fn a_full_store_is_paused_but_not_unusable() {
        let pauses = Pauses::default();
        let pause = |condition| pauses.pause(("a", true), condition, Utc::now(), "x", Duration::ZERO);
        pause(Condition::Quota);
        assert!(pauses.all().contains_key("a") && !pauses.is_unusable("a"));
        assert_eq!(pauses.full(), ["a"]);
        pauses.end_all();
        pause(Condition::ClockSkew);
        assert!(pauses.is_unusable("a") && !pauses.is_unusable("b"));
        assert_eq!(pauses.unusable(), ["a"]);
        pauses.end_all();
        assert!(!pauses.is_unusable("a"));
    }

    #[test]
    fn a_store_is_blocked_that_accepts_nothing_for_a_while() {
        let (pauses, began, minute) = (Pauses::default(), Utc::now(), Duration::from_secs(60));
        let later = began + chrono::TimeDelta::minutes(2);
        let pause = |condition, now| pauses.pause(("a", true), condition, now, "full", minute);
        pause(Condition::Quota, began);
        assert!(pauses.blocked(began, minute).is_empty());
        assert_eq!(pauses.blocked(later, minute), [("a".to_owned(), "full".to_owned())]);
        pauses.served(("a", true));
        assert!(!pauses.blocked(later, minute).is_empty(), "a success during the pause began before it");
        pauses.end_all();
        pauses.served(("a", true));
        pause(Condition::Redirect, later);
        assert!(pauses.blocked(later, minute).is_empty(), "it has accepted something since");
        pauses.end_all();
        pause(Condition::Throttled, began);
        assert!(pauses.blocked(later, minute).is_empty(), "that passes");
    }

    #[test]
    fn an_object_is_to_blame_that_meets_conditions_while_all_others_succeed() {
        let (pauses, object) = (Pauses::default(), ObjectId::new());
        for _ in 0..100 {
            assert!(pauses.strike(("a", true), object), "no other copy succeeded");
        }
        for _ in 1..MAX_STRIKES {
            pauses.served(("a", true));
            assert!(pauses.strike(("a", true), object));
        }
        for _ in 0..MAX_STRIKES {
            pauses.served(("a", false));
            assert!(pauses.strike(("a", true), object), "others were only read");
        }
        pauses.served(("a", true));
        assert!(!pauses.strike(("a", true), object));
        assert!(pauses.strike(("a", true), ObjectId::new()) && pauses.strike(("b", true), object));
    }
}
