//! Merges the sources. Unknown keys are reported and dropped; former names are replaced by the current ones.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use config::{Source as _, Value, ValueKind};

use super::DEFAULT_SOURCE;
use super::layer::Layer;
use super::problem::Problems;
use super::spec::Spec;
use super::table::{self, Form};
use super::validators;

/// The highest number of a rule or price.
const MAX_NUMBER: u32 = 99;

/// The stores that exist by default, with the defaults that differ from those of all stores.
pub(super) const DEFAULT_STORES: [(&str, &str); 4] = [
    ("stores.minio.role", "local"),
    ("stores.minio.endpoint", "http://127.0.0.1:9000"),
    ("stores.minio.bucket", "local-files"),
    ("stores.s3.role", "cloud"),
];

/// The effective values by dotted key.
pub(super) struct Merged {
    /// The values of all sources, including defaults.
    pub(super) values: BTreeMap<String, Value>,
    /// The names or numbers of the repeated sections, in order.
    pub(super) members: Members,
}

/// See [`Merged::members`].
type Members = BTreeMap<&'static str, BTreeSet<(u32, String)>>;

/// Merges the layers, lowest first, over the defaults.
pub(super) fn merge(mut layers: Vec<Layer>, problems: &mut Problems) -> Merged {
    let mut members = Members::new();
    for (key, _) in DEFAULT_STORES {
        if let Some((section, name, _)) = table::member_of(key) {
            members.entry(section).or_default().insert((0, name.to_owned()));
        }
    }
    for layer in &mut layers {
        rename_former(layer, problems);
        layer.entries.retain(|key, value| is_known(key, value, &mut members, problems));
    }
    let mut builder = config::Config::builder().add_source(defaults(&members));
    for layer in layers {
        builder = builder.add_source(layer);
    }
    let mut values = BTreeMap::new();
    match builder.build().and_then(|merged| merged.collect()) {
        Ok(root) => {
            for (key, value) in root {
                flatten(&key, value, &mut values);
            }
        }
        Err(error) => problems.add_from(
            "all sources together",
            "the configuration",
            format!("cannot be merged: {error}"),
            "report this as a bug",
        ),
    }
    for (key, value) in &values {
        problems.set_origin(key, value.origin().unwrap_or(DEFAULT_SOURCE));
    }
    Merged { values, members }
}

pub(super) fn default_of(key: &str, spec: &Spec) -> Value {
    let of_store = DEFAULT_STORES.iter().find(|(of, _)| *of == key);
    let kind = of_store.map_or_else(|| spec.default.clone(), |(_, value)| ValueKind::from(*value));
    Value::new(Some(&DEFAULT_SOURCE.to_owned()), kind)
}

/// The defaults of all settings in all sections.
fn defaults(members: &Members) -> Layer {
    let mut layer = Layer::default();
    for spec in table::all() {
        match table::member_of(&spec.key) {
            None => {
                layer.entries.insert(spec.key.clone(), default_of(&spec.key, spec));
            }
            Some((section, _, _)) => {
                for (_, name) in members.get(section).into_iter().flatten() {
                    let key = spec.key.replace('*', name);
                    let value = default_of(&key, spec);
                    layer.entries.insert(key, value);
                }
            }
        }
    }
    layer
}

/// Replaces former names of settings with the current ones, with a warning.
fn rename_former(layer: &mut Layer, problems: &mut Problems) {
    let former: Vec<(String, String)> =
        layer.entries.keys().filter_map(|key| Some((key.clone(), table::renamed(key)?))).collect();
    for (old, new) in former {
        let Some(value) = layer.entries.remove(&old) else { continue };
        let source = value.origin().unwrap_or(DEFAULT_SOURCE).to_owned();
        match layer.entries.entry(new) {
            Entry::Occupied(present) => {
                let message = format!("is the former name of {}, which is set as well", present.key());
                problems.add_from(source, &old, message, format!("remove {old}"));
            }
            Entry::Vacant(absent) => {
                let new = absent.key();
                problems
                    .warn(format!("{old} ({source}) has been renamed to {new}; the former name still works"));
                absent.insert(value);
            }
        }
    }
}

fn is_known(key: &str, value: &Value, members: &mut Members, problems: &mut Problems) -> bool {
    let source = value.origin().unwrap_or(DEFAULT_SOURCE);
    let is_empty_section = matches!(value.kind, ValueKind::Table(_));
    if let Some((section, rest, form)) = table::several_of(key) {
        let name = rest.split('.').next().unwrap_or(rest);
        let Some(place) = place_of(section, form, name, key, source, problems) else { return false };
        if is_empty_section || table::find(key).is_some() {
            members.entry(section).or_default().insert((place, name.to_owned()));
        }
    }
    if table::find(key).is_some() {
        return true;
    }
    if table::is_section(key) {
        if !is_empty_section {
            problems.add_from(
                source,
                key,
                "is a section, not a setting",
                "set the settings in it; see config/example.toml",
            );
        }
        return false;
    }
    let fix = match table::suggestion(key) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "remove it; config/example.toml lists all settings".to_owned(),
    };
    problems.add_from(source, key, "is not a setting", fix);
    false
}

/// The position of a section among those of its kind: `None` if its name is invalid.
fn place_of(
    section: &str,
    form: Form,
    name: &str,
    key: &str,
    source: &str,
    problems: &mut Problems,
) -> Option<u32> {
    let place = match form {
        Form::Numbered => name.parse().ok().filter(|number| (1..=MAX_NUMBER).contains(number)),
        Form::Single | Form::Named => validators::store_name(name).is_ok().then_some(0),
    };
    if place.is_some_and(|number| form != Form::Numbered || number.to_string() == name) {
        return place;
    }
    let (message, fix) = if form == Form::Numbered {
        (
            format!("has \"{name}\" instead of a number from 1 to {MAX_NUMBER}"),
            format!(
                "in a file, start each section with [[{section}]]; elsewhere use numbers from 1, as in \
                    {section}.1"
            ),
        )
    } else {
        let noun = if section == "stores" { "store" } else { "provider" };
        (
            format!("contains a {noun} \"{name}\", which is not a valid name"),
            "use at most 32 characters a-z, 0-9 and hyphen, starting with a letter".to_owned(),
        )
    };
    problems.add_from(source, key, message, fix);
    None
}

fn flatten(key: &str, value: Value, values: &mut BTreeMap<String, Value>) {
    match value.kind {
        ValueKind::Table(inner) => {
            for (name, value) in inner {
                flatten(&format!("{key}.{name}"), value, values);
            }
        }
        _ => {
            values.insert(key.to_owned(), value);
        }
    }
}
