//! The sources of settings in increasing precedence: file, environment aliases, `NIGHTFERRY__SECTION__KEY`, command
//! line. Reads the sources without interpreting the values.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use config::{ConfigError, Map, Source, Value, ValueKind};
use toml::de::{DeTable, DeValue};

use super::declare::join;
use super::problem::Problems;
use super::table::{self, Form};
use super::{LoadOptions, env_aliases};

const PREFIX: &str = "NIGHTFERRY__";
const FILE_VARIABLE: &str = "NIGHTFERRY_CONFIG";

/// The settings of one source by dotted key, each with its origin.
#[derive(Clone, Default)]
pub(super) struct Layer {
    pub(super) entries: BTreeMap<String, Value>,
}

impl fmt::Debug for Layer {
    /// Only keys, because values may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.entries.keys()).finish()
    }
}

impl Layer {
    /// Sets a value, replacing an earlier one of the same source.
    pub(super) fn set(&mut self, key: &str, origin: &str, value: impl Into<ValueKind>) {
        self.entries.insert(key.to_owned(), Value::new(Some(&origin.to_owned()), value.into()));
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.entries.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }
}

/// All layers, lowest precedence first.
pub(super) fn all(options: LoadOptions, problems: &mut Problems) -> Vec<Layer> {
    vec![
        file(&options, problems),
        env_aliases::layer(&options.env, problems),
        environment(&options.env, problems),
        command_line(options.overrides),
    ]
}

fn file(options: &LoadOptions, problems: &mut Problems) -> Layer {
    let (path, named_by) = match (&options.file, options.env.get(FILE_VARIABLE)) {
        (Some(path), _) => (path.clone(), "command line"),
        (None, Some(path)) if !path.is_empty() => {
            (PathBuf::from(path), "environment variable NIGHTFERRY_CONFIG")
        }
        _ => match options.search.iter().find(|path| path.exists()) {
            Some(path) => (path.clone(), "found at a default location"),
            None => return Layer::default(),
        },
    };
    let name = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => from_toml(&text, |line| format!("{name} line {line}"), problems),
        Err(error) => {
            problems.add_from(
                named_by,
                &name,
                format!("cannot be read: {error}"),
                "specify the path of a configuration file that is readable by this user",
            );
            Layer::default()
        }
    }
}

fn from_toml(text: &str, origin: impl Fn(usize) -> String, problems: &mut Problems) -> Layer {
    let mut layer = Layer::default();
    let (root, errors) = DeTable::parse_recoverable(text);
    let line_at = |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
    if errors.is_empty() {
        flatten("", root.get_ref(), &|offset| origin(line_at(offset)), &mut layer);
    }
    for error in errors {
        // Only the message: the parser's full text quotes the line, which may contain a secret.
        let line = error.span().map_or(1, |span| line_at(span.start));
        problems.add_from(
            origin(line),
            "the file",
            format!("is not TOML: {}", error.message()),
            "correct the line; see config/example.toml",
        );
    }
    layer
}

fn flatten(prefix: &str, section: &DeTable<'_>, origin: &dyn Fn(usize) -> String, layer: &mut Layer) {
    for (name, value) in section {
        let key = join(prefix, name.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) if !inner.is_empty() => flatten(&key, inner, origin, layer),
            DeValue::Array(list) if !list.is_empty() && list.iter().all(|item| item.get_ref().is_table()) => {
                for (index, item) in list.iter().enumerate() {
                    let key = format!("{key}.{}", index + 1);
                    match item.get_ref() {
                        DeValue::Table(inner) if !inner.is_empty() => flatten(&key, inner, origin, layer),
                        leaf => layer.set(&key, &origin(item.span().start), value_kind(leaf)),
                    }
                }
            }
            leaf => layer.set(&key, &origin(name.span().start), value_kind(leaf)),
        }
    }
}

fn value_kind(value: &DeValue<'_>) -> ValueKind {
    match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| ValueKind::String(number.as_str().to_owned()), ValueKind::I64),
        DeValue::Float(number) => ValueKind::String(number.as_str().to_owned()),
        DeValue::Boolean(switch) => ValueKind::Boolean(*switch),
        DeValue::Datetime(time) => ValueKind::String(time.to_string()),
        DeValue::Array(_) => ValueKind::Array(Vec::new()),
        DeValue::Table(_) => ValueKind::Table(Map::new()),
    }
}

fn environment(env: &BTreeMap<String, String>, problems: &mut Problems) -> Layer {
    let mut layer = Layer::default();
    for variable in env.keys() {
        let Some(path) = variable.strip_prefix(PREFIX) else { continue };
        let mut key = key_of(path);
        let mut name = variable.as_str();
        if table::find(&key).is_none()
            && let Some(of_file) = variable.strip_suffix("_FILE")
            && let Some(spec) = table::find(&key_of(path.trim_end_matches("_FILE")))
            && spec.secret
        {
            name = of_file;
            key = key_of(path.trim_end_matches("_FILE"));
        }
        if let Some((value, source)) = environment_value(name, &key, env, problems) {
            layer.set(&key, &source, value);
        }
    }
    layer
}

/// `SERVER__PORT` means `server.port`. Names of sections may contain hyphens, which variables cannot.
fn key_of(path: &str) -> String {
    let key = path.to_ascii_lowercase().replace("__", ".");
    let Some((section, rest, Form::Named)) = table::several_of(&key) else { return key };
    let (name, field) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
    format!("{section}.{}{field}", name.replace('_', "-"))
}

/// The value of a variable and its source. A secret may also be in a file named by `NAME_FILE`, as is common on
/// container platforms. An empty variable counts as unset.
pub(super) fn environment_value(
    name: &str,
    key: &str,
    env: &BTreeMap<String, String>,
    problems: &mut Problems,
) -> Option<(String, String)> {
    let filled = |name: &str| env.get(name).filter(|text| !text.trim().is_empty());
    let direct = filled(name).map(|text| (text.clone(), format!("environment variable {name}")));
    let file_variable = format!("{name}_FILE");
    let is_secret = table::find(key).is_some_and(|spec| spec.secret);
    let Some(path) = filled(&file_variable).filter(|_| is_secret) else { return direct };
    let source = format!("environment variable {file_variable}");
    if direct.is_some() {
        problems.add_from(
            source,
            key,
            format!("is set twice, by {name} and {file_variable}"),
            "unset one of them",
        );
        return direct;
    }
    match std::fs::read_to_string(Path::new(path)) {
        Ok(text) => Some((text.trim_end_matches(['\r', '\n']).to_owned(), source)),
        Err(error) => {
            problems.add_from(
                source,
                key,
                format!("cannot be read from the file {path}: {error}"),
                "specify the path of a file that is readable by this user",
            );
            None
        }
    }
}

fn command_line(overrides: Vec<(String, String)>) -> Layer {
    let mut layer = Layer::default();
    for (key, value) in overrides {
        layer.set(&key, "command line", value);
    }
    layer
}
