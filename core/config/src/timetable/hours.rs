//! Hours of the week in text form: `22:00-06:00`, `Mon-Fri 08:00-18:00`, `Sat-Sun`. Parses them, and maps them to the
//! days of a time zone. Independent of their use.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, TimeZone, Utc, Weekday, WeekdaySet};
use chrono_tz::Tz;

/// Minutes in a day.
const DAY: u32 = 24 * 60;

/// A time span that starts on certain days of the week, in local time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Hours {
    /// The days on which it starts.
    days: WeekdaySet,
    /// Minutes after midnight.
    from: u32,
    /// Minutes after midnight; if not later than `from`, on the next day.
    to: u32,
}

/// A span of absolute time; the end is exclusive.
pub(super) type Span = (DateTime<Utc>, DateTime<Utc>);

impl FromStr for Hours {
    type Err = String;

    /// The error completes a sentence about the span.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let (days, hours) = match (words.next(), words.next(), words.next()) {
            (Some(only), None, None) if only.contains(':') => (None, Some(only)),
            (Some(only), None, None) => (Some(only), None),
            (Some(days), Some(hours), None) => (Some(days), Some(hours)),
            (None, ..) => return Err("is empty".to_owned()),
            _ => return Err("has too many words".to_owned()),
        };
        let days = days.map_or(Ok(WeekdaySet::ALL), read_days)?;
        let (from, to) = hours.map_or(Ok((0, DAY)), read_hours)?;
        Ok(Self { days, from, to })
    }
}

/// `Mon`, or `Mon-Fri`; `Fri-Mon` wraps around the end of the week.
fn read_days(text: &str) -> Result<WeekdaySet, String> {
    let day = |text: &str| {
        text.parse::<Weekday>()
            .map_err(|_| "has a day that is none of Mon, Tue, Wed, Thu, Fri, Sat, Sun".to_owned())
    };
    let Some((first, last)) = text.split_once('-') else { return day(text).map(WeekdaySet::single) };
    let (mut at, last) = (day(first)?, day(last)?);
    let mut days = WeekdaySet::single(at);
    while at != last {
        at = at.succ();
        days.insert(at);
    }
    Ok(days)
}

/// `22:00-06:00`.
fn read_hours(text: &str) -> Result<(u32, u32), String> {
    let (from, to) =
        text.split_once('-').ok_or_else(|| "has no end; expected hours such as 22:00-06:00".to_owned())?;
    let (from, to) = (read_time(from)?, read_time(to)?);
    if from == DAY {
        return Err("starts at 24:00; use 00:00 for midnight at the start".to_owned());
    }
    if from == to {
        return Err("starts and ends at the same time; use 00:00-24:00 for a whole day".to_owned());
    }
    Ok((from, to))
}

/// `00:00` to `24:00`, in minutes.
fn read_time(text: &str) -> Result<u32, String> {
    let wrong = || "has a time that is not between 00:00 and 24:00".to_owned();
    let number = |digits: &str| match digits.len() {
        1 | 2 if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse::<u32>().map_err(|_| wrong())
        }
        _ => Err(wrong()),
    };
    let (hour, minute) = text.split_once(':').ok_or_else(wrong)?;
    let (hour, minute) = (number(hour)?, number(minute)?);
    let minutes = hour * 60 + minute;
    if minute < 60 && minutes <= DAY { Ok(minutes) } else { Err(wrong()) }
}

impl Hours {
    /// The span that starts on this day, if any. A span that a change of daylight saving skips entirely is omitted.
    pub(super) fn on(self, day: NaiveDate, zone: Tz) -> Option<Span> {
        if !self.days.contains(day.weekday()) {
            return None;
        }
        let last_day = if self.to <= self.from { day.checked_add_days(Days::new(1))? } else { day };
        let span = (instant(day, self.from, zone)?, instant(last_day, self.to, zone)?);
        (span.0 < span.1).then_some(span)
    }

    /// The spans that start on the days around `now`, from the previous day to the given number of days later.
    pub(super) fn around(self, now: DateTime<Utc>, zone: Tz, days: u64) -> impl Iterator<Item = Span> {
        let today = now.with_timezone(&zone).date_naive();
        let before = today.checked_sub_days(Days::new(1)).unwrap_or(today);
        (0..=days.saturating_add(1))
            .filter_map(move |offset| self.on(before.checked_add_days(Days::new(offset))?, zone))
    }

    /// Whether one of them is in progress.
    pub(super) fn contain(self, now: DateTime<Utc>, zone: Tz) -> bool {
        // One day more: where the date line moves, clocks can skip a whole day.
        self.around(now, zone, 1).any(|(from, to)| from <= now && now < to)
    }
}

/// The first moment at which local clocks show this time or a later one. A skipped time is the moment of the change; of
/// a repeated time, the first occurrence counts.
fn instant(day: NaiveDate, minutes: u32, zone: Tz) -> Option<DateTime<Utc>> {
    let day = day.checked_add_days(Days::new(u64::from(minutes / DAY)))?;
    let minutes = minutes % DAY;
    let local = day.and_time(NaiveTime::from_hms_opt(minutes / 60, minutes % 60, 0)?);
    if let Some(found) = zone.from_local_datetime(&local).earliest() {
        return Some(found.with_timezone(&Utc));
    }
    // No zone differs more than 26 hours from UTC, including changes.
    let (mut early, mut late) =
        (local.and_utc() - TimeDelta::hours(26), local.and_utc() + TimeDelta::hours(26));
    while late - early > TimeDelta::seconds(1) {
        let middle = early + TimeDelta::seconds((late - early).num_seconds() / 2);
        if middle.with_timezone(&zone).naive_local() < local {
            early = middle;
        } else {
            late = middle;
        }
    }
    Some(late)
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |minutes: u32| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        if self.days != WeekdaySet::ALL {
            // The days are one range, possibly wrapping around the end of the week.
            let first = self.days.iter(Weekday::Mon).find(|day| !self.days.contains(day.pred()));
            let last = self.days.iter(Weekday::Mon).find(|day| !self.days.contains(day.succ()));
            if let (Some(first), Some(last)) = (first, last) {
                if first == last { write!(f, "{first} ")? } else { write!(f, "{first}-{last} ")? }
            }
        }
        write!(f, "{}-{}", time(self.from), time(self.to))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BERLIN: Tz = chrono_tz::Europe::Berlin;

    fn hours(text: &str) -> Hours {
        text.parse().unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn hours_are_accepted_in_various_forms() {
        for (text, normal) in [
            ("22:00-06:00", "22:00-06:00"),
            ("  mon-fri   8:00-18:00 ", "Mon-Fri 08:00-18:00"),
            ("Sat-Sun", "Sat-Sun 00:00-24:00"),
            ("Fri-Mon 00:00-24:00", "Fri-Mon 00:00-24:00"),
            ("Wednesday 1:05-1:06", "Wed 01:05-01:06"),
            ("Mon-Sun 22:00-06:00", "22:00-06:00"),
        ] {
            assert_eq!(hours(text).to_string(), normal, "{text}");
            assert_eq!(hours(normal), hours(text));
        }
    }

    #[test]
    fn invalid_hours_are_rejected() {
        for text in [
            "",
            "22-06",
            "22:00",
            "22:00-",
            "25:00-06:00",
            "22:60-06:00",
            "24:01-06:00",
            "24:00-06:00",
            "06:00-06:00",
            "Foo 22:00-06:00",
            "Mon- 22:00-06:00",
            "Mon 22:00-06:00 Tue",
            "022:00-06:00",
            "+2:00-06:00",
            "Mon,Tue 22:00-06:00",
        ] {
            assert!(text.parse::<Hours>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn hours_over_midnight_belong_to_their_first_day() {
        // 2026-05-01 is a Friday.
        let friday = hours("Fri 22:00-06:00");
        for (time, inside) in [
            ("2026-05-01T21:59:59Z", false),
            ("2026-05-01T22:00:00Z", true),
            ("2026-05-02T05:59:59Z", true),
            ("2026-05-02T06:00:00Z", false),
            ("2026-05-01T03:00:00Z", false),
            ("2026-05-02T22:30:00Z", false),
        ] {
            assert_eq!(friday.contain(at(time), Tz::UTC), inside, "{time}");
        }
    }

    #[test]
    fn daylight_saving_makes_the_night_shorter_and_longer() {
        let night = hours("00:00-06:00");
        let length = |day: &str| {
            let (from, to) = night.on(day.parse().unwrap(), BERLIN).unwrap();
            (to - from).num_hours()
        };
        assert_eq!((length("2026-03-28"), length("2026-03-29"), length("2026-10-25")), (6, 5, 7));
    }

    #[test]
    fn a_skipped_time_is_the_moment_of_the_change() {
        let jump = at("2026-03-29T01:00:00Z");
        let day = "2026-03-29".parse().unwrap();
        assert_eq!(hours("02:30-05:00").on(day, BERLIN).unwrap().0, jump);
        assert_eq!(hours("01:00-02:30").on(day, BERLIN).unwrap().1, jump);
        assert_eq!(hours("02:15-02:45").on(day, BERLIN), None);
    }

    #[test]
    fn a_repeated_time_is_the_first_occurrence() {
        let day = "2026-10-25".parse().unwrap();
        let (from, to) = hours("02:30-02:45").on(day, BERLIN).unwrap();
        assert_eq!((from, to), (at("2026-10-25T00:30:00Z"), at("2026-10-25T00:45:00Z")));
    }

    #[test]
    fn a_skipped_calendar_day_is_empty() {
        // Samoa skipped from 2011-12-29 to 2011-12-31.
        let samoa = chrono_tz::Pacific::Apia;
        assert_eq!(hours("08:00-18:00").on("2011-12-30".parse().unwrap(), samoa), None);
        assert!(hours("08:00-18:00").on("2011-12-31".parse().unwrap(), samoa).is_some());
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "[MonTuFri0-9: ,-]{0,24}") {
            let _ = text.parse::<Hours>();
        }

        /// If clocks do not change, a moment is inside if its local time is.
        #[test]
        fn inclusion_follows_the_local_clock(from in 0..DAY, to in 0..=DAY, second in 0_i64..14 * 86_400) {
            prop_assume!(from != to);
            let hours = Hours { days: WeekdaySet::ALL, from, to };
            let now = at("2026-06-01T00:00:00Z") + TimeDelta::seconds(second);
            let minute = u32::try_from(second % 86_400 / 60).unwrap();
            let shown = if from < to { (from..to).contains(&minute) } else { minute >= from || minute < to };
            prop_assert_eq!(hours.contain(now, Tz::UTC), shown);
        }

        /// Times of one day are ordered in every zone, regardless of clock changes.
        #[test]
        fn instants_keep_the_order_of_their_local_times(day in 0_u64..20_000, a in 0..=DAY, b in 0..=DAY, zone in 0..chrono_tz::TZ_VARIANTS.len()) {
            let day = NaiveDate::from_ymd_opt(1975, 1, 1).unwrap() + Days::new(day);
            let zone = chrono_tz::TZ_VARIANTS[zone];
            let (early, late) = (a.min(b), a.max(b));
            prop_assert!(instant(day, early, zone).unwrap() <= instant(day, late, zone).unwrap());
        }
    }
}
