//! Medians, speeds and how numbers are written.

use std::time::Duration;

/// The middle of some durations; zero of none.
pub(crate) fn median(values: &[Duration]) -> Duration {
    percentile(values, 50)
}

/// The value below which `percent` of the values lie; zero of none.
pub(crate) fn percentile(values: &[Duration], percent: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let index = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(index).copied().unwrap_or_default()
}

/// The middle of some numbers; zero of none.
pub(crate) fn median_number(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// How many times faster `ours` is than `theirs`.
pub(crate) fn speedup(ours: Duration, theirs: Duration) -> f64 {
    theirs.as_secs_f64() / ours.as_secs_f64().max(1e-9)
}

/// Smallest and largest speed-up of the pairs that were measured one after the other.
pub(crate) fn spread(ours: &[Duration], theirs: &[Duration]) -> (f64, f64) {
    let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| speedup(*ours, *theirs));
    ratios.fold((f64::INFINITY, 0.0), |(low, high), ratio| (low.min(ratio), high.max(ratio)))
}

/// Seconds with two decimals.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// Kibibytes as mebibytes.
pub(crate) fn mebibytes(kib: u64) -> String {
    format!("{:.1} MiB", f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_value() {
        let values = [5, 1, 9].map(Duration::from_secs);
        assert_eq!(median(&values), Duration::from_secs(5));
        assert_eq!(median(&[]), Duration::ZERO);
        assert_eq!(median_number(&[7, 1, 3]), 3);
    }

    #[test]
    fn half_the_time_is_twice_the_speed() {
        assert!((speedup(Duration::from_secs(1), Duration::from_secs(2)) - 2.0).abs() < 1e-9);
    }
}
