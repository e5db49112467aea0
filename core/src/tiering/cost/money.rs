//! Amounts of money: whole numbers of billionths, so that sums are exact. Independent of the currency.

use std::fmt;
use std::iter::Sum;
use std::ops::Add;

use crate::config::Price;

/// Bytes of a GiB, the unit of prices.
const GIBIBYTE: u128 = 1 << 30;

/// An amount.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money {
    nanos: u128,
}

impl Money {
    /// The cost of bytes at a price per GiB.
    pub fn of_bytes(price: Price, bytes: u64) -> Self {
        Self { nanos: u128::from(price.nanos) * u128::from(bytes) / GIBIBYTE }
    }

    /// The cost of requests at a price per thousand.
    pub fn of_requests(price: Price, requests: u64) -> Self {
        Self { nanos: u128::from(price.nanos) * u128::from(requests) / 1000 }
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { nanos: self.nanos + other.nanos }
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), Add::add)
    }
}

impl fmt::Display for Money {
    /// With four decimals, rounded.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rounded = (self.nanos + 50_000) / 100_000;
        write!(f, "{}.{:04}", rounded / 10_000, rounded % 10_000)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact_until_they_are_shown() {
        let price = |text: &str| text.parse::<Price>().unwrap();
        assert_eq!(Money::of_bytes(price("0.023"), 10 << 30).to_string(), "0.2300");
        assert_eq!(Money::of_requests(price("0.005"), 1_500_000).to_string(), "7.5000");
        assert_eq!(Money::of_bytes(price("0.00099"), 1 << 20).to_string(), "0.0000");
        let many: Money = (0..1024).map(|_| Money::of_bytes(price("0.00099"), 1 << 20)).sum();
        assert_eq!(many.to_string(), "0.0010");
        assert_eq!(Money::of_bytes(price("999999"), u64::MAX).to_string(), "17179852004130815.9991");
    }
}
