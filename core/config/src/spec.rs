//! The specification of a setting: its key, type, bounds, default, whether it is secret, and its documentation.
//! Independent of the sources of values.

use config::{Value, ValueKind};

use super::declare::Declared;
use super::value::SettingValue;
use nightferry_ground::units::parse_duration;

/// One row of the list of settings.
#[derive(Debug, Clone)]
pub(super) struct Spec {
    /// Dotted key; `*` stands for the name of a store or the number of a rule.
    pub(super) key: String,
    /// The allowed values.
    pub(super) kind: Kind,
    /// The default; empty if there is none.
    pub(super) default: ValueKind,
    /// What an empty value means.
    pub(super) need: Need,
    /// Whether the value is secret and never shown.
    pub(super) secret: bool,
    /// The value in the example file if there is no default.
    pub(super) example: Option<&'static str>,
    /// The former name, in the same section.
    pub(super) former: Option<&'static str>,
    doc: &'static [&'static str],
}

/// What an empty value (`""`) means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Empty is invalid like any other wrong value.
    Filled,
    /// Empty means "not set"; the text describes the effect.
    Optional(&'static str),
    /// Empty is an error; the text describes the value, as in "set it to …".
    Required(&'static str),
}

/// The allowed values of a setting.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number in a range, a multiple of `step`.
    Integer { min: u64, max: u64, step: u64, unit: &'static str },
    /// A duration such as `90s` or `1h 30m`, within bounds.
    Duration { min: &'static str, max: &'static str },
    /// A duration, or `never`.
    DurationOrNever,
    /// One of these keywords.
    OneOf(&'static [&'static str]),
    /// Text with a rule: the function returns the normalized text, or a predicate that describes the error ("is not a
    /// URL"). It must not repeat the text, which may be secret.
    Text { what: &'static str, rule: fn(&str) -> Result<String, String> },
}

/// The options of a declaration.
impl Spec {
    /// A setting without an empty value.
    pub(super) fn new<T: SettingValue>(at: Declared) -> Self {
        let default = ValueKind::String(String::new());
        let (need, example, former) = (Need::Filled, None, None);
        Self { key: at.key, kind: T::KIND, default, need, secret: T::SECRET, example, former, doc: at.doc }
    }

    /// The value if no source sets it.
    pub(super) fn default(self, value: impl Into<ValueKind>) -> Self {
        Self { default: value.into(), ..self }
    }

    /// Empty means "not set", with this effect.
    pub(super) fn unset(self, effect: &'static str) -> Self {
        Self { need: Need::Optional(effect), ..self }
    }

    /// No default; the text describes the value.
    pub(super) fn required(self, what: &'static str) -> Self {
        Self { need: Need::Required(what), ..self }
    }

    /// The value in the example file.
    pub(super) fn example(self, value: &'static str) -> Self {
        Self { example: Some(value), ..self }
    }

    /// The last part of the former key, which is still accepted.
    pub(super) fn formerly(self, name: &'static str) -> Self {
        Self { former: Some(name), ..self }
    }

    /// A whole number between bounds.
    pub(super) fn range(self, min: u64, max: u64) -> Self {
        Self { kind: Kind::Integer { min, max, step: 1, unit: "" }, ..self }
    }

    /// A size in MiB, a multiple of `step`.
    pub(super) fn mebibytes(self, min: u64, max: u64, step: u64) -> Self {
        Self { kind: Kind::Integer { min, max, step, unit: "MiB" }, ..self }
    }

    /// A percentage.
    pub(super) fn percent(self, min: u64, max: u64) -> Self {
        Self { kind: Kind::Integer { min, max, step: 1, unit: "percent" }, ..self }
    }

    /// A duration between bounds.
    pub(super) fn lasts(self, min: &'static str, max: &'static str) -> Self {
        Self { kind: Kind::Duration { min, max }, ..self }
    }

    /// A duration, or `never`.
    pub(super) fn or_never(self) -> Self {
        Self { kind: Kind::DurationOrNever, ..self }
    }

    /// Text with a validator; `what` completes a sentence that begins with "give".
    pub(super) fn text(self, what: &'static str, rule: fn(&str) -> Result<String, String>) -> Self {
        Self { kind: Kind::Text { what, rule }, ..self }
    }
}

impl Spec {
    /// The last segment of the key.
    pub(super) fn name(&self) -> &str {
        self.key.rsplit('.').next().unwrap_or(&self.key)
    }

    /// The key without its last segment.
    pub(super) fn section(&self) -> &str {
        self.key.rsplit_once('.').map_or("", |(section, _)| section)
    }

    /// The description, in whole sentences.
    pub(super) fn doc(&self) -> String {
        prose(self.doc)
    }

    /// Converts a value to the normal form of this setting. The error is the predicate of a sentence about the value.
    pub(super) fn read(&self, value: &Value) -> Result<ValueKind, String> {
        let empty = matches!(&value.kind, ValueKind::String(text) if text.trim().is_empty());
        if empty && self.need != Need::Filled {
            return Ok(ValueKind::String(String::new()));
        }
        self.kind.read(value)
    }

    /// A valid placeholder value, for continuing the checks after an error has been recorded.
    pub(super) fn placeholder(&self) -> ValueKind {
        let text = if let Kind::OneOf([first, ..]) = self.kind { first } else { "" };
        ValueKind::String(text.to_owned())
    }
}

/// The lines of a doc comment as one paragraph.
pub(super) fn prose(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

impl Kind {
    /// The allowed values as text, as in "give …".
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
            Self::Duration { min, max } => {
                format!("a duration from {min} to {max}, such as \"90s\" or \"1h 30m\"")
            }
            Self::DurationOrNever => "\"never\", or a duration such as \"0s\" or \"30d\"".to_owned(),
            Self::OneOf(words) => {
                words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(" or ")
            }
            Self::Text { what, .. } => (*what).to_owned(),
        }
    }

    /// The allowed values in short form, for tables.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Integer { min, max, step, unit } => {
                let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
                let step = if *step == 1 { String::new() } else { format!(", a multiple of {step}") };
                format!("{min} to {max}{unit}{step}")
            }
            Self::Duration { min, max } => format!("{min} to {max}"),
            _ => self.expects(),
        }
    }

    fn read(&self, value: &Value) -> Result<ValueKind, String> {
        match self {
            Self::Switch => read_switch(value).map(ValueKind::Boolean),
            Self::Integer { min, max, step, .. } => {
                let number = read_integer(value)?;
                if !(*min..=*max).contains(&number) {
                    return Err("is out of range".to_owned());
                }
                if !number.is_multiple_of(*step) {
                    return Err(format!("is not a multiple of {step}"));
                }
                Ok(ValueKind::U64(number))
            }
            Self::Duration { min, max } => {
                let text = words_of(value)?;
                let duration = parse_duration(text)?;
                if !(parse_duration(min)?..=parse_duration(max)?).contains(&duration) {
                    return Err("is out of range".to_owned());
                }
                Ok(ValueKind::from(text.trim()))
            }
            Self::DurationOrNever => {
                let text = words_of(value)?.trim();
                if text != "never" {
                    parse_duration(text)?;
                }
                Ok(ValueKind::from(text))
            }
            Self::OneOf(words) => {
                let text = text_of(value)?.trim();
                words
                    .iter()
                    .find(|word| word.eq_ignore_ascii_case(text))
                    .map(|word| ValueKind::from(*word))
                    .ok_or_else(|| "is not one of the allowed values".to_owned())
            }
            Self::Text { rule, .. } => rule(text_of(value)?).map(ValueKind::String),
        }
    }
}

fn read_switch(value: &Value) -> Result<bool, String> {
    match &value.kind {
        ValueKind::Boolean(switch) => Ok(*switch),
        ValueKind::String(text) => switch_from_words(text),
        other => Err(is_not(other, "true or false")),
    }
}

/// Parses the usual words for a boolean in an environment variable.
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
            Err("is not a string; it needs quotes".to_owned())
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
