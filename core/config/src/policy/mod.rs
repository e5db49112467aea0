//! Policy rules (first match wins) and prices. This file contains the section itself and the checks across rules,
//! prices and stores.

mod globs;
mod price;
mod rule;

use std::collections::BTreeMap;
use std::time::Duration;

use super::problem::Problems;
use super::{Config, validators};
use crate::declare::settings;

pub use self::globs::Globs;
pub use self::price::{Price, PriceConfig};
pub use self::rule::RuleConfig;

settings! {
    /// The `[policy]` section.
    pub struct PolicyConfig {
        /// How often the rule of each local copy of a synced file is evaluated again, because the age and the use of
        /// files change. After a change of the rules, this is done at once.
        pub review_every: Duration = "1h", lasts("1s", "30d");
        /// How long a plan saved by `nightferry sync plan` can be executed; after that, it is deleted.
        pub plan_ttl: Duration = "24h", lasts("1m", "30d");
        /// The currency of the prices, for display only; prices are not converted.
        pub currency: String = "USD", text("a currency such as \"EUR\"", validators::currency);
        /// Rules that determine for each file the stores it is copied to and how long its local copy is kept; the first
        /// matching rule applies. Without rules, all files are copied to `tiering.cloud_store`, and
        /// `tiering.free_local_after` determines how long their local copies are kept. Each rule is a section
        /// `[[policy.rules]]`, numbered from 1: in the environment, `NIGHTFERRY__POLICY__RULES__1__NAME`.
        pub rules: BTreeMap<u32, RuleConfig>;
        /// Prices of the stores, from the price lists of your providers: a section `[[policy.prices]]` for each store
        /// and storage class. Without prices, `nightferry sync plan` shows costs as unknown.
        pub prices: BTreeMap<u32, PriceConfig>;
    }
}

impl PolicyConfig {
    /// The price of a class in a store, if configured.
    pub fn price(&self, store: &str, class: &str) -> Option<&PriceConfig> {
        self.prices.values().find(|price| price.store == store && price.class() == class)
    }

    /// The rule with this name.
    pub fn rule(&self, name: &str) -> Option<&RuleConfig> {
        self.rules.values().find(|rule| rule.name == name)
    }

    pub(super) fn check(&self, config: &Config, problems: &mut Problems) {
        for (number, rule) in &self.rules {
            rule.check(*number, config, problems);
        }
        let mut names: BTreeMap<&str, u32> = BTreeMap::new();
        let mut everything: Option<(u32, &str)> = None;
        for (number, rule) in &self.rules {
            if let Some(other) = names.insert(&rule.name, *number).filter(|_| !rule.name.is_empty()) {
                problems.add(
                    &format!("policy.rules.{number}.name"),
                    format!("= \"{}\" is also the name of rule {other}", rule.name),
                    "give every rule a unique name",
                );
            }
            if let Some((other, name)) = everything {
                problems.add(
                    &format!("policy.rules.{number}.name"),
                    format!(
                        "= \"{}\" is never used: the previous rule {other} \"{name}\" matches every file",
                        rule.name
                    ),
                    format!("move rule {other} to the end, or add conditions to it"),
                );
            } else if rule.matches_everything() && !rule::is_wrong(*number, problems) {
                everything = Some((*number, &rule.name));
            }
        }
        let mut priced: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for (number, price) in &self.prices {
            price.check(*number, config, problems);
            if let Some(other) = priced.insert((&price.store, price.class()), *number) {
                problems.add(
                    &format!("policy.prices.{number}.store"),
                    format!(
                        "= \"{}\" with the class {} already has a price, number {other}",
                        price.store,
                        price.class()
                    ),
                    "remove one of them",
                );
            }
        }
    }
}
