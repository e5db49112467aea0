//! Prices of a store. They come from the operator; none is built in, because prices depend on provider, region and
//! contract, and change.

use std::fmt;
use std::str::FromStr;

use super::rule::unknown_store;
use crate::Config;
use crate::declare::settings;
use crate::problem::Problems;
use crate::validators::{self, ensure};

/// The storage class of a store without a configured one.
const DEFAULT_CLASS: &str = "STANDARD";

/// An amount of money with a precision of a billionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price {
    /// Billionths of the currency unit.
    pub nanos: u64,
}

impl FromStr for Price {
    type Err = String;

    /// A decimal number with up to nine decimal places, such as `0.023`. The error completes a sentence.
    fn from_str(text: &str) -> Result<Self, String> {
        const NO_PRICE: &str = "is not a price such as \"0.023\"";
        let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        ensure(digits(whole) && digits(fraction), NO_PRICE)?;
        ensure(
            whole.len() <= 6 && fraction.len() <= 9,
            "is out of range: a price has at most six digits before and nine after the point",
        )?;
        let whole: u64 = whole.parse().map_err(|_| NO_PRICE)?;
        let fraction: u64 = format!("{fraction:0<9}").parse().map_err(|_| NO_PRICE)?;
        Ok(Self { nanos: whole * 1_000_000_000 + fraction })
    }
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:09}", self.nanos / 1_000_000_000, self.nanos % 1_000_000_000);
        let short = text.trim_end_matches('0').trim_end_matches('.');
        f.write_str(short)
    }
}

settings! {
    /// A `[[policy.prices]]` section.
    pub struct PriceConfig {
        /// The store to which the price applies.
        pub store: String,
            text("the name of a store", validators::store_name), required("the name of a store"), example("s3");
        /// The storage class to which the price applies.
        pub storage_class: Option<String>,
            text("a storage class such as \"STANDARD_IA\"", validators::any_storage_class), unset("STANDARD");
        /// Price of one GiB for a month, from your provider's price list.
        pub storage: Option<Price>, unset("unknown, and so are costs");
        /// Price of a thousand PUT requests.
        pub requests: Option<Price>, unset("unknown, and so is the cost of a run");
        /// Price of reading one GiB.
        pub egress: Option<Price>, unset("unknown");
    }
}

impl PriceConfig {
    /// The storage class of the price.
    pub fn class(&self) -> &str {
        self.storage_class.as_deref().unwrap_or(DEFAULT_CLASS)
    }

    pub(super) fn check(&self, number: u32, config: &Config, problems: &mut Problems) {
        let key = format!("policy.prices.{number}.store");
        if !problems.is_wrong(&key) && !config.stores.contains_key(&self.store) {
            unknown_store(&key, &self.store, config, problems);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact_and_round_trip() {
        for (text, nanos) in [("0.023", 23_000_000), ("0.00099", 990_000), ("12", 12_000_000_000), ("0", 0)] {
            let price: Price = text.parse().unwrap();
            assert_eq!(price.nanos, nanos);
            assert_eq!(price.to_string(), text);
        }
        for wrong in ["", ".", "1.", ".5", "-1", "1e3", "0.0000000001", "1000000", "1,5"] {
            assert!(wrong.parse::<Price>().is_err(), "{wrong}");
        }
    }
}
