//! The transfer window: hours of the week in which transfers may start. An empty window is always open.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::hours::Hours;

/// Search range for the next opening, in days: a weekly one may be skipped once by daylight saving.
const AHEAD: u64 = 15;
/// A window that is open for longer than this never closes.
const FOR_EVER: TimeDelta = TimeDelta::days(14);

/// The transfer window.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Window(Vec<Hours>);

impl FromStr for Window {
    type Err = String;

    /// Spans separated by commas. The error is a predicate about the text, without repeating the text.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let spans = text.split(',').enumerate().map(|(index, span)| {
            span.parse().map_err(|wrong: String| format!("has a span, number {}, that {wrong}", index + 1))
        });
        spans.collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spans: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&spans.join(", "))
    }
}

impl Window {
    /// Whether the window is always open.
    pub fn is_always(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether transfers may start.
    pub fn is_open(&self, now: DateTime<Utc>, zone: Tz) -> bool {
        self.is_always() || self.0.iter().any(|hours| hours.contain(now, zone))
    }

    /// The next opening; `None` while it is open.
    pub fn opens_at(&self, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        if self.is_open(now, zone) {
            return None;
        }
        let spans = self.0.iter().flat_map(|hours| hours.around(now, zone, AHEAD));
        let next = spans.map(|(from, _)| from).filter(|from| *from > now).min();
        // There is always one; otherwise the search would be repeated.
        Some(next.unwrap_or(now + FOR_EVER))
    }

    /// The next closing; `None` while it is closed, and if it never closes.
    pub fn closes_at(&self, now: DateTime<Utc>, zone: Tz) -> Option<DateTime<Utc>> {
        let mut end = now;
        while end - now <= FOR_EVER {
            let spans = self.0.iter().flat_map(|hours| hours.around(end, zone, 1));
            let later = spans.filter(|(from, to)| *from <= end && end < *to).map(|(_, to)| to).max();
            match later {
                Some(later) => end = later,
                None => return (end > now).then_some(end),
            }
        }
        None
    }

    /// How long it was open between two moments.
    pub fn open_between(&self, from: DateTime<Utc>, to: DateTime<Utc>, zone: Tz) -> Duration {
        let (mut at, mut open) = (from, TimeDelta::zero());
        while at < to {
            if let Some(opens) = self.opens_at(at, zone) {
                at = opens;
                continue;
            }
            let closes = self.closes_at(at, zone).unwrap_or(to).min(to);
            open += closes - at;
            at = closes;
        }
        open.to_std().unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BERLIN: Tz = chrono_tz::Europe::Berlin;

    fn window(text: &str) -> Window {
        text.parse().unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn an_empty_window_is_always_open() {
        let always = window(" ");
        assert!(always.is_always() && always.is_open(at("2026-05-01T00:00:00Z"), BERLIN));
        assert_eq!(always.opens_at(at("2026-05-01T00:00:00Z"), BERLIN), None);
        assert_eq!(always.closes_at(at("2026-05-01T00:00:00Z"), BERLIN), None);
    }

    #[test]
    fn a_window_opens_and_closes_by_the_local_clock() {
        let nights = window("22:00-06:00");
        let noon = at("2026-05-01T12:00:00Z");
        assert!(!nights.is_open(noon, BERLIN));
        assert_eq!(nights.opens_at(noon, BERLIN), Some(at("2026-05-01T20:00:00Z")));
        let night = at("2026-05-01T23:00:00Z");
        assert_eq!(nights.closes_at(night, BERLIN), Some(at("2026-05-02T04:00:00Z")));
        assert_eq!(nights.opens_at(night, BERLIN), None);
    }

    #[test]
    fn adjacent_spans_are_merged() {
        // 2026-05-02 is a Saturday.
        let window = window("Mon-Fri 22:00-06:00, Sat-Sun");
        let friday_night = at("2026-05-01T23:00:00Z");
        assert_eq!(window.closes_at(friday_night, Tz::UTC), Some(at("2026-05-04T00:00:00Z")));
        assert_eq!(window.opens_at(at("2026-05-04T00:00:00Z"), Tz::UTC), Some(at("2026-05-04T22:00:00Z")));
    }

    #[test]
    fn a_window_of_seven_whole_days_never_closes() {
        let whole = window("00:00-24:00");
        assert!(whole.is_open(at("2026-05-01T00:00:00Z"), BERLIN));
        assert_eq!(whole.closes_at(at("2026-05-01T00:00:00Z"), BERLIN), None);
    }

    #[test]
    fn a_weekly_window_skipped_by_daylight_saving_opens_a_week_later() {
        let sundays = window("Sun 02:15-02:45");
        let saturday = at("2026-03-28T12:00:00Z");
        assert_eq!(sundays.opens_at(saturday, BERLIN), Some(at("2026-04-05T00:15:00Z")));
    }

    #[test]
    fn closed_time_is_not_counted() {
        let nights = window("22:00-06:00");
        let (from, to) = (at("2026-05-01T04:00:00Z"), at("2026-05-01T23:00:00Z"));
        assert_eq!(nights.open_between(from, to, Tz::UTC), Duration::from_secs(3 * 3600));
        assert_eq!(window("").open_between(from, to, Tz::UTC), Duration::from_secs(19 * 3600));
        assert_eq!(nights.open_between(to, from, Tz::UTC), Duration::ZERO);
    }

    #[test]
    fn errors_of_spans_show_their_number() {
        let wrong = "00:00-06:00, 25:00-26:00".parse::<Window>().unwrap_err();
        assert_eq!(wrong, "has a span, number 2, that has a time that is not between 00:00 and 24:00");
        assert!("00:00-06:00,".parse::<Window>().is_err());
    }

    proptest! {
        /// Openings and closings are exactly the moments at which the state changes.
        #[test]
        fn openings_and_closings_are_where_the_state_changes(
            text in prop::sample::select(vec![
                "00:00-06:00", "22:00-06:00", "Mon-Fri 22:00-06:00", "Mon-Fri 22:00-06:00, Sat-Sun",
                "02:15-02:45", "01:00-02:30, 02:30-04:00", "Sun 23:00-01:00, Mon 00:30-05:00",
            ]),
            zone in prop::sample::select(vec![Tz::UTC, BERLIN, chrono_tz::America::Havana, chrono_tz::Australia::Lord_Howe]),
            minute in 0_i64..2 * 365 * 24 * 60,
        ) {
            let window = window(text);
            let now = at("2025-12-01T00:00:00Z") + TimeDelta::minutes(minute);
            let change = match window.opens_at(now, zone) {
                Some(opens) => opens,
                None => window.closes_at(now, zone).unwrap(),
            };
            let open = window.is_open(now, zone);
            prop_assert!(change > now);
            prop_assert_eq!(window.is_open(change - TimeDelta::seconds(1), zone), open);
            prop_assert_eq!(window.is_open(change, zone), !open);
            let middle = now + (change - now) / 2;
            prop_assert_eq!(window.is_open(middle, zone), open);
        }
    }
}
