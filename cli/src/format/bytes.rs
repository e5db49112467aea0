//! Sizes for people: binary units (IEC 80000-13) with one decimal.

use std::time::Duration;

const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// `0 B`, `1023 B`, `1.0 KiB`, `4.2 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut scale = 1024_u128;
    let mut units = UNITS.iter().peekable();
    loop {
        let tenths = (u128::from(bytes) * 10 + scale / 2) / scale;
        let unit = units.next().copied().unwrap_or_default();
        // Rounding may have carried into the next unit.
        if tenths < 10_240 || units.peek().is_none() {
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
        scale *= 1024;
    }
}

/// Bytes a second over a time, for people.
pub(crate) fn rate(bytes: u64, over: Duration) -> String {
    format!("{}/s", human(per_second(bytes, over)))
}

/// Bytes a second over a time.
pub(crate) fn per_second(bytes: u64, over: Duration) -> u64 {
    let millis = over.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 1000 / millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_one_decimal_and_the_largest_unit_that_fits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1024 * 1024 - 1, "1.0 MiB"),
            (300 * 1024 * 1024, "300.0 MiB"),
            (5 * 1024 * 1024 * 1024 + 300 * 1024 * 1024, "5.3 GiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (bytes, text) in cases {
            assert_eq!(human(bytes), text, "{bytes}");
        }
    }

    #[test]
    fn rates_are_by_the_second_and_never_divide_by_zero() {
        assert_eq!(rate(3 * 1024 * 1024, Duration::from_millis(1500)), "2.0 MiB/s");
        assert_eq!(per_second(1, Duration::ZERO), 1000);
    }
}
