//! Times and lengths of time for people: local with their offset. Programs get RFC 3339 from the documents.

use std::time::Duration;

use chrono::{DateTime, Local, Utc};

/// Whose wall clock times are shown in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    /// This machine's.
    Local,
    /// None's in particular: snapshots of the output must not depend on the machine.
    #[cfg(test)]
    Utc,
}

const FORMAT: &str = "%Y-%m-%d %H:%M:%S %:z";

impl Zone {
    /// A point in time.
    pub(crate) fn show(self, time: DateTime<Utc>) -> String {
        match self {
            Self::Local => time.with_timezone(&Local).format(FORMAT).to_string(),
            #[cfg(test)]
            Self::Utc => time.format(FORMAT).to_string(),
        }
    }

    /// A point in time that may not have come.
    pub(crate) fn show_or_dash(self, time: Option<DateTime<Utc>>) -> String {
        time.map_or_else(|| "-".to_owned(), |time| self.show(time))
    }
}

/// The time from one point to a later one; nothing when they are the wrong way round.
pub(crate) fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Duration {
    (to - from).to_std().unwrap_or_default()
}

/// A length of time by its two largest units: `850 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`.
pub(crate) fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{} ms", length.as_millis()),
        1..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_their_two_largest_units() {
        let cases = [
            (Duration::from_millis(850), "850 ms"),
            (Duration::from_millis(12_900), "12 s"),
            (Duration::from_secs(200), "3 min 20 s"),
            (Duration::from_secs(3600), "1 h"),
            (Duration::from_secs(7_500), "2 h 5 min"),
            (Duration::from_secs(4 * 86_400 + 3 * 3600), "4 d 3 h"),
        ];
        for (length, text) in cases {
            assert_eq!(span(length), text);
        }
    }

    #[test]
    fn times_carry_their_offset() {
        let time = DateTime::from_timestamp(1_795_219_200, 0).unwrap_or_default();
        assert_eq!(Zone::Utc.show(time), "2026-11-21 00:00:00 +00:00");
        assert_eq!(Zone::Utc.show_or_dash(None), "-");
    }
}
