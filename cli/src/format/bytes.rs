//! Formats sizes and rates for display.

use std::time::Duration;

use nightferry_core::units::ByteCount;

/// `0 B`, `1023 B`, `1.0 KiB`, `4.2 GiB`.
pub(crate) fn human(bytes: u64) -> String {
    ByteCount(bytes).to_string()
}

pub(crate) fn rate(bytes: u64, over: Duration) -> String {
    format!("{}/s", human(per_second(bytes, over)))
}

pub(crate) fn per_second(bytes: u64, over: Duration) -> u64 {
    let millis = over.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 1000 / millis).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_and_never_divide_by_zero() {
        assert_eq!(rate(3 * 1024 * 1024, Duration::from_millis(1500)), "2.0 MiB/s");
        assert_eq!(per_second(1, Duration::ZERO), 1000);
    }
}
