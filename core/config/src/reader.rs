//! Converts the merged values to typed values, key by key, so that all invalid values are reported at once.

use config::{Value, ValueKind};

use super::merge::{Merged, default_of};
use super::problem::Problems;
use super::spec::{Need, Spec};
use super::value::SettingValue;
use super::{DEFAULT_SOURCE, Setting, env_aliases, table};

const MASK: &str = "********";

/// The values to read, and the results so far.
pub(super) struct Reader<'a> {
    merged: &'a Merged,
    problems: &'a mut Problems,
    settings: Vec<Setting>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(merged: &'a Merged, problems: &'a mut Problems) -> Self {
        Self { merged, problems, settings: Vec::new() }
    }

    /// Every setting that was read, for display.
    pub(super) fn into_settings(self) -> Vec<Setting> {
        self.settings
    }

    /// Reads one setting. An invalid value is reported and replaced by the default, so that the remaining checks can
    /// run.
    pub(super) fn value<T: SettingValue>(&mut self, key: &str) -> Option<T> {
        let spec = table::find(key)?;
        let normal = self.normal(key, spec);
        let value = if spec.secret && normal != ValueKind::String(String::new()) {
            MASK.to_owned()
        } else {
            normal.to_string()
        };
        self.settings.push(Setting { key: key.to_owned(), value, source: self.problems.origin(key) });
        let typed = T::from_normal(&normal);
        if typed.is_none() {
            self.problems.add(key, "does not fit the type of this setting", "report this as a bug");
        }
        typed
    }

    /// The names or numbers of the enabled sections below a key. Of a disabled section, only the switch is read.
    pub(super) fn members(&mut self, section: &str) -> Vec<String> {
        let members = self.merged.members.get(section).into_iter().flatten();
        let mut names = Vec::new();
        for (_, name) in members {
            let switch = format!("{section}.{name}.enabled");
            let off = table::find(&switch).zip(self.merged.values.get(&switch));
            if off.is_some_and(|(spec, value)| spec.read(value) == Ok(ValueKind::Boolean(false))) {
                self.value::<bool>(&switch);
            } else {
                names.push(name.clone());
            }
        }
        names
    }

    fn normal(&mut self, key: &str, spec: &Spec) -> ValueKind {
        let empty = ValueKind::String(String::new());
        let fallback = || match spec.read(&default_of(key, spec)) {
            Ok(value) if value != empty || !matches!(spec.need, Need::Required(_)) => value,
            _ => spec.placeholder(),
        };
        let Some(value) = self.merged.values.get(key) else { return fallback() };
        match spec.read(value) {
            Ok(read) => match spec.need {
                Need::Required(what) if read == empty => {
                    if !self.problems.is_wrong(key) {
                        let source = match self.problems.origin(key).as_str() {
                            DEFAULT_SOURCE => "not set anywhere".to_owned(),
                            source => format!("{source}, where it is empty"),
                        };
                        let fix = format!("set {}, to {what}", places(key, spec));
                        self.problems.add_from(source, key, "is missing", fix);
                    }
                    spec.placeholder()
                }
                _ => read,
            },
            Err(message) => {
                let shown = if spec.secret { String::new() } else { format!("= {} ", quoted(value)) };
                let fix = format!("give {}", spec.kind.expects());
                self.problems.add(key, format!("{shown}{message}"), fix);
                fallback()
            }
        }
    }
}

/// The places where a key can be set, most common first.
fn places(key: &str, spec: &Spec) -> String {
    let own = format!("NIGHTFERRY__{}", key.replace('.', "__").replace('-', "_").to_ascii_uppercase());
    let mut names: Vec<&str> =
        env_aliases::aliases_of(&spec.key).filter(|alias| alias.key == key).map(|alias| alias.name).collect();
    names.push(&own);
    format!("{} in the environment, or {key} in the file", names.join(" or "))
}

fn quoted(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("\"{}\"", text.escape_debug()),
        ValueKind::Array(_) => "[…]".to_owned(),
        other => other.to_string(),
    }
}
