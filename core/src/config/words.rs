//! Serde helpers for values that are text in the configuration and something else in Rust.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

use super::rules::bytes_from_words;
use super::spec::duration_from_words;

/// A length of time such as `30s`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    // Empty only where an error is already recorded for the key, so the configuration is never returned.
    if text.is_empty() { Ok(Duration::ZERO) } else { duration_from_words(&text).map_err(D::Error::custom) }
}

/// A length of time such as `30d`, where `never` means none.
pub(super) fn duration_or_never<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if matches!(text.as_str(), "" | "never") {
        return Ok(None);
    }
    duration_from_words(&text).map(Some).map_err(D::Error::custom)
}

/// Values that parse from text, separated by commas.
pub(super) fn parsed_list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    split_list(&text).map(|word| word.parse().map_err(D::Error::custom)).collect()
}

/// A length of time such as `30s`, where empty means unset.
pub(super) fn optional_duration<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { duration_from_words(&text).map(Some).map_err(D::Error::custom) }
}

/// Anything that parses from text, where empty means unset.
pub(super) fn optional_parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(D::Error::custom) }
}

/// Words separated by commas.
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(split_list(&String::deserialize(deserializer)?).map(str::to_owned).collect())
}

/// The words of a text that are separated by commas.
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|word| !word.is_empty())
}

/// Text, where empty means unset.
pub(super) fn optional<'de, D: Deserializer<'de>, T: From<String>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(if text.is_empty() { None } else { Some(T::from(text)) })
}

/// A size such as `500GiB` in bytes, where empty means unset.
pub(super) fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { bytes_from_words(&text).map(Some).map_err(D::Error::custom) }
}

/// Anything that parses from text.
pub(super) fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// A count, where 0 means "decide by yourself".
pub(super) fn zero_is_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let count = usize::deserialize(deserializer)?;
    Ok((count > 0).then_some(count))
}
