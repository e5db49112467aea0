//! What a store charges. Every price comes from the operator: none is built in, because prices differ by provider, region
//! and contract, and change.

use std::fmt;
use std::str::FromStr;

use serde::Deserialize;

use super::rule::unknown_store;
use crate::config::problem::Problems;
use crate::config::spec::{Kind, Spec};
use crate::config::{Config, rules, words};

/// The class of a store that names none.
const USUAL_CLASS: &str = "STANDARD";

/// An amount of money, exact to a billionth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Price {
    /// Billionths of the currency's unit.
    pub nanos: u64,
}

impl FromStr for Price {
    type Err = String;

    /// A decimal number with at most nine places, such as `0.023`. The error is the rest of a sentence.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "is not a price such as \"0.023\"".to_owned();
        let (whole, fraction) = text.trim().split_once('.').unwrap_or((text.trim(), "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(wrong());
        }
        if whole.len() > 6 || fraction.len() > 9 {
            return Err(
                "is out of range: a price has at most six digits before and nine after the point".to_owned()
            );
        }
        let whole: u64 = whole.parse().map_err(|_| wrong())?;
        let fraction: u64 = format!("{fraction:0<9}").parse().map_err(|_| wrong())?;
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

/// A `[[policy.prices]]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceConfig {
    /// Name of the store.
    pub store: String,
    /// Class that it is for.
    #[serde(deserialize_with = "words::optional")]
    pub storage_class: Option<String>,
    /// A GiB for a month.
    #[serde(deserialize_with = "words::optional_parsed")]
    pub storage: Option<Price>,
    /// A thousand PUTs.
    #[serde(deserialize_with = "words::optional_parsed")]
    pub requests: Option<Price>,
    /// A GiB read.
    #[serde(deserialize_with = "words::optional_parsed")]
    pub egress: Option<Price>,
}

impl PriceConfig {
    /// The class that it is for.
    pub fn class(&self) -> &str {
        self.storage_class.as_deref().unwrap_or(USUAL_CLASS)
    }

    pub(super) fn check(&self, number: u32, config: &Config, problems: &mut Problems) {
        let key = format!("policy.prices.{number}.store");
        if !problems.is_wrong(&key) && !config.stores.contains_key(&self.store) {
            unknown_store(&key, &self.store, config, problems);
        }
    }
}

pub(in crate::config) const SETTINGS: &[Spec] = &[
    Spec::new(
        "policy.prices.*.store",
        Kind::Text { what: "the name of a store", rule: rules::store_name },
        "The store whose price this is.",
    )
    .required("the name of a store"),
    Spec::new(
        "policy.prices.*.storage_class",
        Kind::Text { what: "a storage class such as \"STANDARD_IA\"", rule: rules::any_storage_class },
        "The storage class whose price this is.",
    )
    .optional("STANDARD"),
    Spec::new(
        "policy.prices.*.storage",
        Kind::Text { what: "a price such as \"0.023\"", rule: rules::price },
        "What a GiB costs for a month, from your provider's price list.",
    )
    .optional("not known, and so are costs"),
    Spec::new(
        "policy.prices.*.requests",
        Kind::Text { what: "a price such as \"0.005\"", rule: rules::price },
        "What a thousand PUT requests cost.",
    )
    .optional("not known, and so is what a run costs"),
    Spec::new(
        "policy.prices.*.egress",
        Kind::Text { what: "a price such as \"0.09\"", rule: rules::price },
        "What it costs to read a GiB back.",
    )
    .optional("not known"),
];

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact_and_come_back_as_they_were_written() {
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
