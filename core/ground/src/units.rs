//! Sizes and durations as text: one parser and one formatter for each, used by the configuration and the CLI. kB, MB,
//! GB, TB are powers of 1000, and KiB, MiB, GiB, TiB are powers of 1024 (SI, IEC 80000-13); letter case is ignored.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The units of a size and their bytes.
pub const UNITS: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A number of bytes. Displayed in binary units with one decimal: `0 B`, `1.0 KiB`, `4.2 GiB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut scale = 1024_u128;
        let mut units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter().peekable();
        loop {
            let tenths = (u128::from(self.0) * 10 + scale / 2) / scale;
            let unit = units.next().copied().unwrap_or_default();
            // Rounding may have carried into the next unit.
            if tenths < 10_240 || units.peek().is_none() {
                return write!(f, "{}.{} {unit}", tenths / 10, tenths % 10);
            }
            scale *= 1024;
        }
    }
}

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_size(text)
    }
}

/// Parses a size such as `800MB`, `500GiB` or `2 TiB`: a whole number and a unit. The result is at least one byte and
/// at most `i64::MAX`, the maximum in the database.
///
/// # Errors
/// The error as the predicate of a sentence, without the text itself.
pub fn parse_size(text: &str) -> Result<ByteCount, String> {
    let text = text.trim();
    let digits = text.find(|at: char| !at.is_ascii_digit()).ok_or("has no unit")?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "is not a size")?;
    let factor = unit_bytes(unit.trim()).ok_or("has an unknown unit")?;
    match number.checked_mul(factor) {
        Some(bytes @ 1..) if i64::try_from(bytes).is_ok() => Ok(ByteCount(bytes)),
        _ => Err("is out of range".to_owned()),
    }
}

/// The number of bytes of a unit such as `MiB`.
pub fn unit_bytes(name: &str) -> Option<u64> {
    UNITS.iter().find(|(unit, _)| unit.eq_ignore_ascii_case(name)).map(|(_, bytes)| *bytes)
}

/// Parses a duration such as `30s`, `15m`, `12h`, `30d` or `1h 30m`.
///
/// # Errors
/// The error as the predicate of a sentence, without the text itself.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text != "0" {
        return Err("has no unit".to_owned());
    }
    humantime::parse_duration(text).map_err(|_| "is not a duration".to_owned())
}

/// Formats a duration with its two largest units: `850 ms`, `12 s`, `3 min 20 s`, `2 h 5 min`, `4 d 3 h`.
pub fn format_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
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
    fn units_are_decimal_or_binary_by_their_names_in_any_case() {
        for (text, bytes) in [
            ("1B", 1),
            ("50MB", 50_000_000),
            ("50MiB", 50 << 20),
            (" 2 tib ", 2 << 40),
            ("10kb", 10_000),
            ("10KiB", 10_240),
        ] {
            assert_eq!(parse_size(text), Ok(ByteCount(bytes)), "{text}");
        }
    }

    #[test]
    fn sizes_without_a_known_unit_and_out_of_range_are_refused() {
        for wrong in [
            "",
            "20",
            "MiB",
            "-1G",
            "1.5GiB",
            "500M",
            "0B",
            "5 parsecs",
            "99999999999999TB",
            "9223372036854775808B",
        ] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes_are_shown_with_one_decimal_and_the_largest_unit_that_fits() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (300 * 1024 * 1024, "300.0 MiB"),
            (5 * 1024 * 1024 * 1024 + 300 * 1024 * 1024, "5.3 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(ByteCount(bytes).to_string(), text, "{bytes}");
        }
    }

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(parse_duration("1h 30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("0"), Ok(Duration::ZERO));
        assert_eq!(parse_duration("30"), Err("has no unit".to_owned()));
        assert_eq!(parse_duration("soon"), Err("is not a duration".to_owned()));
    }

    #[test]
    fn durations_show_their_two_largest_units() {
        for (duration, text) in [
            (Duration::from_millis(850), "850 ms"),
            (Duration::from_millis(12_900), "12 s"),
            (Duration::from_secs(200), "3 min 20 s"),
            (Duration::from_secs(3600), "1 h"),
            (Duration::from_secs(7_500), "2 h 5 min"),
            (Duration::from_secs(4 * 86_400 + 3 * 3600), "4 d 3 h"),
        ] {
            assert_eq!(format_duration(duration), text);
        }
    }
}
