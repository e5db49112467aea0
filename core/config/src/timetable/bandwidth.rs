//! The bandwidth limit of a worker by time of day: one rate, or a timetable of rates. Empty: unlimited.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::hours::Hours;
use nightferry_ground::units::{UNITS, unit_bytes};

/// Minimum rate in bytes per second: below it, stores would close the slow connections.
const SLOWEST: u64 = 64 * 1024;

/// Units of bits per second with their bytes; the prefixes are decimal.
const BITS: [(&str, u64); 3] = [("kbit", 125), ("Mbit", 125_000), ("Gbit", 125_000_000)];

/// The bandwidth limits of a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bandwidth(Vec<Entry>);

/// An entry of the timetable. The first matching entry applies.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// `None`: at all other times.
    hours: Option<Hours>,
    rate: Rate,
}

/// Bytes per second; `None`: unlimited.
type Rate = Option<NonZeroU64>;

impl FromStr for Bandwidth {
    type Err = String;

    /// Entries separated by commas: days and hours, then a rate. The error completes a sentence about the text, without
    /// repeating the text.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Ok(Self::default());
        }
        let mut entries: Vec<Entry> = Vec::new();
        for (index, text) in text.split(',').enumerate() {
            let number = index + 1;
            if entries.iter().any(|entry| entry.hours.is_none()) {
                return Err(format!(
                    "has an entry, number {number}, that is never used: one without hours always matches \
                        and must be the last"
                ));
            }
            let entry =
                read_entry(text).map_err(|wrong| format!("has an entry, number {number}, that {wrong}"))?;
            entries.push(entry);
        }
        Ok(Self(entries))
    }
}

fn read_entry(text: &str) -> Result<Entry, String> {
    let text = text.trim();
    let (hours, rate) = match text.rsplit_once(char::is_whitespace) {
        // `10 MiB/s`: the unit may be separated by a space.
        Some((before, unit)) if is_unit(unit) => match before.trim_end().rsplit_once(char::is_whitespace) {
            Some((hours, number)) => (Some(hours), format!("{number}{unit}")),
            None => (None, format!("{}{unit}", before.trim_end())),
        },
        Some((hours, rate)) => (Some(hours), rate.to_owned()),
        None => (None, text.to_owned()),
    };
    let rate = read_rate(&rate)?;
    Ok(Entry { hours: hours.map(str::parse).transpose()?, rate })
}

fn is_unit(text: &str) -> bool {
    unit_rate(text).is_some()
}

/// Bytes per second of a unit such as `MiB/s`.
fn unit_rate(text: &str) -> Option<u64> {
    let unit = text.strip_suffix("/s").or_else(|| text.strip_suffix("/S"))?;
    let bits = BITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).map(|(_, bytes)| *bytes);
    bits.or_else(|| unit_bytes(unit))
}

fn read_rate(text: &str) -> Result<Rate, String> {
    if text.eq_ignore_ascii_case("unlimited") {
        return Ok(None);
    }
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if unit.starts_with('.') {
        return Err("has a fractional rate; use a smaller unit, such as 1536KiB/s".to_owned());
    }
    let no_rate = || "does not end in a rate such as 2MiB/s, or unlimited".to_owned();
    if unit.contains(':') {
        return Err(no_rate());
    }
    let number: u64 = number.parse().map_err(|_| no_rate())?;
    let size = unit_rate(unit)
        .ok_or_else(|| "has a rate with an unknown unit; use KiB/s, MiB/s, GiB/s, MB/s, Mbit/s".to_owned())?;
    let rate = number.checked_mul(size).ok_or_else(|| "has a rate that is too large".to_owned())?;
    if rate < SLOWEST {
        return Err(format!(
            "is slower than {} KiB/s, at which stores close connections; to transfer nothing at certain \
                hours, set tiering.window",
            SLOWEST / 1024
        ));
    }
    Ok(NonZeroU64::new(rate))
}

impl fmt::Display for Bandwidth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&entries.join(", "))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(hours) = self.hours {
            write!(f, "{hours} ")?;
        }
        let Some(rate) = self.rate.map(NonZeroU64::get) else { return f.write_str("unlimited") };
        let fits = |(_, size): &&(&str, u64)| rate.is_multiple_of(*size);
        let (unit, size) =
            UNITS.iter().chain(&BITS).filter(fits).max_by_key(|(_, size)| *size).copied().unwrap_or(("B", 1));
        write!(f, "{}{unit}/s", rate / size)
    }
}

impl Bandwidth {
    /// Whether there is never a limit.
    pub fn is_unlimited(&self) -> bool {
        self.0.iter().all(|entry| entry.rate.is_none())
    }

    /// Bytes per second allowed now; `None`: unlimited. Times that no entry matches are unlimited.
    pub fn at(&self, now: DateTime<Utc>, zone: Tz) -> Option<NonZeroU64> {
        let entry = self.0.iter().find(|entry| entry.hours.is_none_or(|hours| hours.contain(now, zone)));
        entry.and_then(|entry| entry.rate)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;

    fn bandwidth(text: &str) -> Bandwidth {
        text.parse().unwrap()
    }

    fn rate(bandwidth: &Bandwidth, now: &str) -> Option<u64> {
        bandwidth.at(now.parse().unwrap(), Tz::UTC).map(NonZeroU64::get)
    }

    #[test]
    fn a_single_rate_always_applies() {
        let now = "2026-05-01T12:00:00Z";
        for (text, wanted) in [
            ("10MiB/s", Some(10 * MIB)),
            ("10 MiB/s", Some(10 * MIB)),
            ("64kib/s", Some(64 * 1024)),
            ("100 Mbit/s", Some(12_500_000)),
            ("unlimited", None),
            ("", None),
        ] {
            assert_eq!(rate(&bandwidth(text), now), wanted, "{text}");
        }
        assert!(bandwidth("").is_unlimited() && bandwidth("Sat-Sun unlimited").is_unlimited());
        assert!(!bandwidth("10MiB/s").is_unlimited());
    }

    #[test]
    fn the_first_entry_that_includes_the_time_applies() {
        let office = bandwidth("Mon-Fri 08:00-18:00 2MiB/s, 18:00-08:00 unlimited, 5 MiB/s");
        // 2026-05-01 is a Friday.
        assert_eq!(rate(&office, "2026-05-01T08:00:00Z"), Some(2 * MIB));
        assert_eq!(rate(&office, "2026-05-01T18:00:00Z"), None);
        assert_eq!(rate(&office, "2026-05-02T12:00:00Z"), Some(5 * MIB), "what no other entry names");
        assert_eq!(rate(&bandwidth("Mon 08:00-18:00 2MiB/s"), "2026-05-01T12:00:00Z"), None);
    }

    #[test]
    fn errors_of_bandwidth_entries_are_described() {
        for (text, wanted) in [
            ("10", "number 1, that has a rate with an unknown unit"),
            ("fast", "does not end in a rate"),
            ("1.5MiB/s", "fractional rate"),
            ("10KiB/s", "slower than 64 KiB/s"),
            ("0MiB/s", "tiering.window"),
            ("99999999999999GiB/s", "too large"),
            ("2MiB/s, 18:00-08:00 unlimited", "number 2, that is never used"),
            ("2MiB/s,", "number 2"),
            ("25:00-26:00 2MiB/s", "not between 00:00 and 24:00"),
            ("Mon-Fri 08:00-18:00", "does not end in a rate"),
        ] {
            let wrong = text.parse::<Bandwidth>().unwrap_err();
            assert!(wrong.contains(wanted), "{text}: {wrong}");
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(text in "[MonFri0-9: ,/MiBs.-]{0,32}") {
            let _ = text.parse::<Bandwidth>();
        }

        #[test]
        fn the_normal_form_round_trips(rate in SLOWEST..1 << 40, hours in prop::sample::select(vec!["", "Mon-Fri 08:00-18:00 "])) {
            let first = bandwidth(&format!("{hours}{rate}B/s"));
            prop_assert_eq!(bandwidth(&first.to_string()), first);
        }
    }
}
