//! What one setting is: its key, the values it takes, whether it is secret, and its explanation.
//! The rows of every section together are the one table from which reading, error texts, suggestions, the example
//! file and the documentation all come. Nothing here knows where a value came from.

use std::time::Duration;

use config::{Value, ValueKind};
use serde_json::Value as Json;

/// One row of the table of settings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    /// Dotted key; `*` stands for the name of a store.
    pub(super) key: &'static str,
    /// The values it takes.
    pub(super) kind: Kind,
    /// What an empty value means.
    pub(super) need: Need,
    /// Whether the value must never be shown.
    pub(super) secret: bool,
    /// What it does, in whole sentences.
    pub(super) doc: &'static str,
}

/// What an empty value (`""`) means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Empty is refused like any other wrong value.
    Filled,
    /// Empty means unset; the text says what happens then.
    Optional(&'static str),
    /// Empty is an error; the text says what it must be set to, as in "set it to …".
    Required(&'static str),
}

/// The values that a setting takes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number in a range, a multiple of `step`.
    Integer { min: u64, max: u64, step: u64, unit: &'static str },
    /// A length of time in words, such as `90s` or `1h 30m`.
    Duration { min: Duration, max: Duration },
    /// A length of time, or `never`.
    DurationOrNever,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Text with a rule: the function returns the text in its normal form, or what is wrong with it
    /// as the rest of a sentence ("is not a URL"). It must not repeat the text, which may be secret.
    Text { what: &'static str, rule: fn(&str) -> Result<String, String> },
}

impl Spec {
    /// A setting that always has a value.
    pub(super) const fn new(key: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self { key, kind, need: Need::Filled, secret: false, doc }
    }

    /// Empty means unset, with this effect.
    pub(super) const fn optional(self, effect: &'static str) -> Self {
        Self { need: Need::Optional(effect), ..self }
    }

    /// There is no default; this is what to set it to.
    pub(super) const fn required(self, what: &'static str) -> Self {
        Self { need: Need::Required(what), ..self }
    }

    /// The value is never shown.
    pub(super) const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }

    /// The last part of the key.
    pub(super) fn name(&self) -> &'static str {
        self.key.rsplit('.').next().unwrap_or(self.key)
    }

    /// Everything before the last part of the key.
    pub(super) fn section(&self) -> &'static str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// Reads a value as this setting's kind. The error is the rest of a sentence about the value.
    pub(super) fn read(&self, value: &Value) -> Result<Json, String> {
        let empty = matches!(&value.kind, ValueKind::String(text) if text.trim().is_empty());
        if empty && self.need != Need::Filled {
            return Ok(Json::from(""));
        }
        self.kind.read(value)
    }

    /// A value that the setting's type takes, to go on checking with once an error is recorded.
    pub(super) fn placeholder(&self) -> Json {
        match self.kind {
            Kind::OneOf(words) => Json::from(words.first().copied().unwrap_or("")),
            _ => Json::from(""),
        }
    }
}

impl Kind {
    /// A whole number without unit.
    pub(super) const fn count(min: u64, max: u64) -> Self {
        Self::Integer { min, max, step: 1, unit: "" }
    }

    /// A size in MiB.
    pub(super) const fn mebibytes(min: u64, max: u64, step: u64) -> Self {
        Self::Integer { min, max, step, unit: "MiB" }
    }

    /// A length of time; both bounds in seconds.
    pub(super) const fn seconds(min: u64, max: u64) -> Self {
        Self::Duration { min: Duration::from_secs(min), max: Duration::from_secs(max) }
    }

    /// The values in words, as in "give …".
    pub(super) fn expects(&self) -> String {
        match self {
            Self::Switch => "true or false".to_owned(),
            Self::Integer { min, max, step, unit } => {
                let unit = if unit.is_empty() { String::new() } else { format!(" ({unit})") };
                match step {
                    1 => format!("a whole number from {min} to {max}{unit}"),
                    _ => format!("a multiple of {step} from {min} to {max}{unit}"),
                }
            }
            Self::Duration { min, max } => format!(
                "a length of time from {} to {}, such as \"90s\" or \"1h 30m\"",
                in_words(*min),
                in_words(*max)
            ),
            Self::DurationOrNever => "\"never\", or a length of time such as \"0s\" or \"30d\"".to_owned(),
            Self::OneOf(words) => {
                words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
            }
            Self::Text { what, .. } => (*what).to_owned(),
        }
    }

    /// The values in as few words as a table has room for.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Integer { min, max, step, unit } => {
                let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
                let step = if *step == 1 { String::new() } else { format!(", a multiple of {step}") };
                format!("{min} to {max}{unit}{step}")
            }
            Self::Duration { min, max } => format!("{} to {}", in_words(*min), in_words(*max)),
            _ => self.expects(),
        }
    }

    fn read(&self, value: &Value) -> Result<Json, String> {
        match self {
            Self::Switch => read_switch(value).map(Json::from),
            Self::Integer { min, max, step, .. } => {
                let number = read_integer(value)?;
                if !(*min..=*max).contains(&number) {
                    return Err("is out of range".to_owned());
                }
                if !number.is_multiple_of(*step) {
                    return Err(format!("is not a multiple of {step}"));
                }
                Ok(Json::from(number))
            }
            Self::Duration { min, max } => {
                let text = words_of(value)?;
                let length = duration_from_words(text)?;
                if !(*min..=*max).contains(&length) {
                    return Err("is out of range".to_owned());
                }
                Ok(Json::from(text.trim()))
            }
            Self::DurationOrNever => {
                let text = words_of(value)?.trim();
                if text != "never" {
                    duration_from_words(text)?;
                }
                Ok(Json::from(text))
            }
            Self::OneOf(words) => {
                let text = text_of(value)?.trim();
                words
                    .iter()
                    .find(|word| word.eq_ignore_ascii_case(text))
                    .map(|word| Json::from(*word))
                    .ok_or_else(|| "is not one of the possible words".to_owned())
            }
            Self::Text { rule, .. } => rule(text_of(value)?).map(Json::from),
        }
    }
}

/// Parses `30s`, `15m`, `12h`, `30d`, `1h 30m`.
pub fn duration_from_words(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && text != "0" {
        return Err("has no unit".to_owned());
    }
    humantime::parse_duration(text).map_err(|_| "is not a length of time".to_owned())
}

/// The shortest way to write a length of time with one unit.
fn in_words(length: Duration) -> String {
    let seconds = length.as_secs();
    for (unit, size) in [("d", 86_400), ("h", 3_600), ("m", 60)] {
        if seconds >= size && seconds.is_multiple_of(size) {
            return format!("{}{unit}", seconds / size);
        }
    }
    if length.subsec_millis() > 0 { format!("{}ms", length.as_millis()) } else { format!("{seconds}s") }
}

fn read_switch(value: &Value) -> Result<bool, String> {
    match &value.kind {
        ValueKind::Boolean(switch) => Ok(*switch),
        ValueKind::String(text) => switch_from_words(text),
        other => Err(is_not(other, "true or false")),
    }
}

/// Parses the words that people write for a switch in an environment.
pub(super) fn switch_from_words(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" | "1" => Ok(true),
        "false" | "no" | "off" | "0" => Ok(false),
        _ => Err("is not true or false".to_owned()),
    }
}

fn read_integer(value: &Value) -> Result<u64, String> {
    let wrong = || "is not a whole number".to_owned();
    match &value.kind {
        ValueKind::I64(number) => u64::try_from(*number).map_err(|_| "is out of range".to_owned()),
        ValueKind::U64(number) => Ok(*number),
        ValueKind::String(text) => text.trim().parse().map_err(|_| wrong()),
        other => Err(is_not(other, "a whole number")),
    }
}

fn words_of(value: &Value) -> Result<&str, String> {
    match &value.kind {
        ValueKind::I64(_) | ValueKind::U64(_) => Err("has no unit".to_owned()),
        _ => text_of(value),
    }
}

fn text_of(value: &Value) -> Result<&str, String> {
    match &value.kind {
        ValueKind::String(text) => Ok(text),
        ValueKind::I64(_) | ValueKind::U64(_) | ValueKind::Float(_) | ValueKind::Boolean(_) => {
            Err("is not text; it needs quotes".to_owned())
        }
        other => Err(is_not(other, "text")),
    }
}

fn is_not(kind: &ValueKind, wanted: &str) -> String {
    match kind {
        ValueKind::Array(_) => format!("is a list, not {wanted}"),
        ValueKind::Table(_) => format!("is a section, not {wanted}"),
        _ => format!("is not {wanted}"),
    }
}
