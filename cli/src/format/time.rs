//! Formats times and durations: local time with its offset. JSON output uses RFC 3339.

use std::time::Duration;

use chrono::{DateTime, Local, Utc};
pub(crate) use nightferry_core::units::format_duration as span;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Zone {
    Local,
    /// UTC: snapshots of the output must not depend on the machine.
    #[cfg(test)]
    Utc,
}

const FORMAT: &str = "%Y-%m-%d %H:%M:%S %:z";

impl Zone {
    pub(crate) fn show(self, time: DateTime<Utc>) -> String {
        match self {
            Self::Local => time.with_timezone(&Local).format(FORMAT).to_string(),
            #[cfg(test)]
            Self::Utc => time.format(FORMAT).to_string(),
        }
    }

    pub(crate) fn show_or_dash(self, time: Option<DateTime<Utc>>) -> String {
        time.map_or_else(|| "-".to_owned(), |time| self.show(time))
    }
}

/// The time between two points; nothing if they are in the wrong order.
pub(crate) fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Duration {
    (to - from).to_std().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_carry_their_offset() {
        let time = DateTime::from_timestamp(1_795_219_200, 0).unwrap_or_default();
        assert_eq!(Zone::Utc.show(time), "2026-11-21 00:00:00 +00:00");
        assert_eq!(Zone::Utc.show_or_dash(None), "-");
    }
}
