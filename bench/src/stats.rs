//! Medians, speeds and number formats.

use std::time::Duration;

/// The median of durations; zero if there are none.
pub(crate) fn median(values: &[Duration]) -> Duration {
    percentile(values, 50)
}

/// The value below which `percent` of the values lie; zero if there are none.
pub(crate) fn percentile(values: &[Duration], percent: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let index = sorted.len().saturating_sub(1) * percent / 100;
    sorted.get(index).copied().unwrap_or_default()
}

/// The median of numbers; zero if there are none.
pub(crate) fn median_number(values: &[u64]) -> u64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

/// The speed-up of `ours` over `theirs`.
pub(crate) fn speedup(ours: Duration, theirs: Duration) -> f64 {
    theirs.as_secs_f64() / ours.as_secs_f64().max(1e-9)
}

/// Smallest and largest speed-up of consecutive pairs of measurements.
pub(crate) fn spread(ours: &[Duration], theirs: &[Duration]) -> (f64, f64) {
    let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| speedup(*ours, *theirs));
    ratios.fold((f64::INFINITY, 0.0), |(low, high), ratio| (low.min(ratio), high.max(ratio)))
}

/// The Mann-Whitney test of whether two sets of durations have the same distribution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MannWhitney {
    /// By how many standard deviations the first set exceeds the expectation for equal distributions.
    pub(crate) z: f64,
    /// The two-sided probability of such a difference for equal distributions.
    pub(crate) p: f64,
    /// Share of all pairs in which the first value is larger; one half for equal distributions.
    pub(crate) superiority: f64,
}

/// Compares two sets of durations with the normal approximation, which is valid from about twenty values each; ties
/// count half.
pub(crate) fn mann_whitney(first: &[Duration], second: &[Duration]) -> MannWhitney {
    let larger = |ours: &Duration| -> f64 {
        let against = second.iter().map(|theirs| match ours.cmp(theirs) {
            std::cmp::Ordering::Greater => 1.0,
            std::cmp::Ordering::Equal => 0.5,
            std::cmp::Ordering::Less => 0.0,
        });
        against.sum()
    };
    let u: f64 = first.iter().map(larger).sum();
    let count = |set: &[Duration]| f64::from(u32::try_from(set.len()).unwrap_or(u32::MAX));
    let (n, m) = (count(first), count(second));
    let pairs = (n * m).max(1.0);
    let deviation = (pairs * (n + m + 1.0) / 12.0).sqrt();
    let z = (u - n * m / 2.0) / deviation;
    MannWhitney { z, p: two_sided(z.abs()), superiority: u / pairs }
}

/// Two-sided tail probability of the normal distribution beyond `z` (Abramowitz and Stegun 7.1.26, accurate to 1.5e-7).
fn two_sided(z: f64) -> f64 {
    let x = z / std::f64::consts::SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * x);
    let terms = [0.254_829_592, -0.284_496_736, 1.421_413_741, -1.453_152_027, 1.061_405_429];
    let sum = terms.iter().rev().fold(0.0, |sum, term| (sum + term) * t);
    (sum * (-x * x).exp()).clamp(0.0, 1.0)
}

/// Formats seconds with two decimals.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// Formats kibibytes as mebibytes.
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
    fn different_distributions_are_distinguished_and_equal_ones_are_not() {
        let times = |shift: u64| -> Vec<Duration> {
            (0..100).map(|number| Duration::from_micros(1000 + number * 7919 % 101 + shift)).collect()
        };
        let same = mann_whitney(&times(0), &times(0));
        assert!(same.z.abs() < 1e-9 && same.p > 0.99 && (same.superiority - 0.5).abs() < 1e-9, "{same:?}");
        let slower = mann_whitney(&times(40), &times(0));
        assert!(slower.z > 5.0 && slower.p < 1e-6 && slower.superiority > 0.7, "{slower:?}");
        assert!((two_sided(1.959_964) - 0.05).abs() < 1e-5);
    }

    #[test]
    fn half_the_time_is_twice_the_speed() {
        assert!((speedup(Duration::from_secs(1), Duration::from_secs(2)) - 2.0).abs() < 1e-9);
    }
}
