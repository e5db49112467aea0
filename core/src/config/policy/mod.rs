//! Which files go where: the rules, first match wins, and what storing costs. Here the section itself and all that must
//! hold between rules, prices and stores.

mod globs;
mod price;
mod rule;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::problem::Problems;
use super::spec::{Kind, Spec};
use super::{Config, rules, words};

pub use self::globs::Globs;
pub use self::price::{Price, PriceConfig};
pub use self::rule::RuleConfig;

pub(super) use self::price::SETTINGS as PRICE_SETTINGS;
pub(super) use self::rule::SETTINGS as RULE_SETTINGS;

/// The `[policy]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyConfig {
    /// How often the rule of each local copy that has crossed is decided anew.
    #[serde(deserialize_with = "words::duration")]
    pub review_every: Duration,
    /// Life of a saved plan.
    #[serde(deserialize_with = "words::duration")]
    pub plan_ttl: Duration,
    /// Currency of the prices, for showing.
    pub currency: String,
    /// The rules by number; the first that matches decides.
    pub rules: BTreeMap<u32, RuleConfig>,
    /// The prices by number.
    pub prices: BTreeMap<u32, PriceConfig>,
}

impl PolicyConfig {
    /// The price of a class in a store, if one is known.
    pub fn price(&self, store: &str, class: &str) -> Option<&PriceConfig> {
        self.prices.values().find(|price| price.store == store && price.class() == class)
    }

    /// The rule of this name.
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
                    format!("= \"{}\" is the name of rule {other} too", rule.name),
                    "give every rule a name of its own",
                );
            }
            if let Some((other, name)) = everything {
                problems.add(
                    &format!("policy.rules.{number}.name"),
                    format!(
                        "= \"{}\" is never reached: rule {other} \"{name}\" before it matches every file",
                        rule.name
                    ),
                    format!("put rule {other} last, or give it something to match on"),
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
                        "= \"{}\" with the class {} has a price already, number {other}",
                        price.store,
                        price.class()
                    ),
                    "leave one of them out",
                );
            }
        }
    }
}

pub(in crate::config) const SETTINGS: &[Spec] = &[
    Spec::new(
        "policy.review_every",
        Kind::seconds(1, 30 * 86_400),
        "How often the rule of each local copy that has crossed is decided anew, because files grow older and are used. \
         After a change of the rules it is done at once.",
    ),
    Spec::new(
        "policy.plan_ttl",
        Kind::seconds(60, 30 * 86_400),
        "How long a plan that `nightferry sync plan` saved can be executed; then it is taken away.",
    ),
    Spec::new(
        "policy.currency",
        Kind::Text { what: "a currency such as \"EUR\"", rule: rules::currency },
        "The currency of the prices. Only for showing: nothing is converted.",
    ),
];
