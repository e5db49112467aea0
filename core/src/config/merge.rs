//! Lays the sources over each other and turns the result into typed values, key by key, so that one wrong value
//! does not hide another.

use std::collections::{BTreeMap, BTreeSet};

use config::{Source, Value, ValueKind};
use serde_json::{Map as JsonMap, Value as Json};

use super::layer::Layer;
use super::problem::Problems;
use super::spec::{Need, Spec};
use super::{DEFAULT_SOURCE, Setting, rules, table, usual};

const MASK: &str = "********";

/// The highest number of a rule or price.
const MOST_IN_LIST: u32 = 99;

/// The values in force by dotted key.
pub(super) struct Merged {
    values: BTreeMap<String, Value>,
    defaults: BTreeMap<String, Value>,
    members: Members,
}

/// The names or numbers of the sections of which there are several, in their order.
type Members = BTreeMap<&'static str, BTreeSet<(u32, String)>>;

/// Merges the layers, lowest first; the lowest is the defaults. Unknown keys are reported and left out.
pub(super) fn merge(mut layers: Vec<Layer>, problems: &mut Problems) -> Merged {
    let mut members = Members::new();
    for layer in &mut layers {
        layer.entries.retain(|key, value| is_known(key, value, &mut members, problems));
    }
    let mut defaults = BTreeMap::new();
    if let Some(lowest) = layers.first_mut() {
        expand_defaults(lowest, &members);
        defaults.clone_from(&lowest.entries);
    }
    let mut builder = config::Config::builder();
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
            "report this",
        ),
    }
    for (key, value) in &values {
        problems.set_origin(key, value.origin().unwrap_or(DEFAULT_SOURCE));
    }
    Merged { values, defaults, members }
}

fn is_known(key: &str, value: &Value, members: &mut Members, problems: &mut Problems) -> bool {
    let source = value.origin().unwrap_or(DEFAULT_SOURCE);
    let is_empty_section = matches!(value.kind, ValueKind::Table(_));
    let member = table::many_of(key).map(|(section, rest)| (section, rest.split('.').next().unwrap_or(rest)));
    if let Some((section, name)) = member.filter(|(_, name)| !(*name == "*" && source == DEFAULT_SOURCE)) {
        let Some(place) = place_of(section, name, key, source, problems) else { return false };
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
                "give the settings in it; config/example.toml lists them",
            );
        }
        return false;
    }
    let fix = match table::suggestion(key) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "remove it; config/example.toml lists every setting".to_owned(),
    };
    problems.add_from(source, key, "is not a setting", fix);
    false
}

/// The place of a section among those of its kind: none when it has no possible name.
fn place_of(section: &str, name: &str, key: &str, source: &str, problems: &mut Problems) -> Option<u32> {
    let (place, message, fix) = match section {
        "stores" | "auth.oidc" => (
            rules::store_name(name).is_ok().then_some(0),
            format!(
                "names a {} \"{name}\", which is not a possible name",
                if section == "stores" { "store" } else { "provider" }
            ),
            "use at most 32 of a-z, 0-9 and hyphen, beginning with a letter".to_owned(),
        ),
        _ => (
            name.parse()
                .ok()
                .filter(|number| (1..=MOST_IN_LIST).contains(number) && number.to_string() == name),
            format!("has \"{name}\" in the place of a number from 1 to {MOST_IN_LIST}"),
            format!(
                "in a file begin each section with [[{section}]]; elsewhere count from 1, as in {section}.1"
            ),
        ),
    };
    if place.is_none() {
        problems.add_from(source, key, message, fix);
    }
    place
}

/// Turns the `stores.*` defaults into defaults of every store by name, and so for the other sections of that kind.
fn expand_defaults(defaults: &mut Layer, members: &Members) {
    let wildcard = |key: &str| table::member_of(key).is_some_and(|(_, name, _)| name == "*");
    let shared: Vec<(String, Value)> = defaults
        .entries
        .iter()
        .filter(|(key, _)| wildcard(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    defaults.entries.retain(|key, _| !wildcard(key));
    for (key, value) in shared {
        let Some((section, _, field)) = table::member_of(&key) else { continue };
        for (_, name) in members.get(section).into_iter().flatten() {
            defaults.entries.entry(format!("{section}.{name}.{field}")).or_insert_with(|| value.clone());
        }
    }
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

/// Reads every value as its setting's kind. Wrong ones are reported and replaced by the default, so that the checks
/// that follow have something to look at.
pub(super) fn typed(merged: &Merged, problems: &mut Problems) -> (Json, Vec<Setting>) {
    let mut tree = JsonMap::new();
    let mut settings = Vec::new();
    // Present even when every store is disabled, and without any rule.
    for section in table::MANY {
        insert(&mut tree, section, Json::Object(JsonMap::new()));
    }
    for (key, spec) in keys(&merged.members) {
        if table::store_of(&key).is_some_and(|(name, _)| is_disabled(merged, name))
            && spec.name() != "enabled"
        {
            continue;
        }
        let value = read(&key, spec, merged, problems);
        settings.push(Setting {
            key: key.clone(),
            value: shown(spec, &value),
            source: problems.origin(&key),
        });
        if !table::store_of(&key).is_some_and(|(name, _)| is_disabled(merged, name)) {
            insert(&mut tree, &key, value);
        }
    }
    (Json::Object(tree), settings)
}

/// All keys with their rows, in the order of the table, store by store and rule by rule.
fn keys(members: &Members) -> Vec<(String, &'static Spec)> {
    let mut keys = Vec::new();
    let mut done = BTreeSet::new();
    for spec in table::all() {
        let Some((section, _, _)) = table::member_of(spec.key) else {
            keys.push((spec.key.to_owned(), spec));
            continue;
        };
        if !done.insert(section) {
            continue;
        }
        for (_, name) in members.get(section).into_iter().flatten() {
            let of_section = table::all()
                .filter(|spec| table::member_of(spec.key).is_some_and(|(of, _, _)| of == section));
            keys.extend(of_section.map(|spec| (spec.key.replace('*', name), spec)));
        }
    }
    keys
}

fn is_disabled(merged: &Merged, name: &str) -> bool {
    let key = format!("stores.{name}.enabled");
    let enabled = table::find(&key).zip(merged.values.get(&key)).map(|(spec, value)| spec.read(value));
    enabled == Some(Ok(Json::Bool(false)))
}

fn read(key: &str, spec: &Spec, merged: &Merged, problems: &mut Problems) -> Json {
    let default = merged.defaults.get(key).and_then(|value| spec.read(value).ok());
    let or_placeholder = |value: Option<Json>| match value {
        Some(value) if value != "" || !matches!(spec.need, Need::Required(_)) => value,
        _ => spec.placeholder(),
    };
    let Some(value) = merged.values.get(key) else { return or_placeholder(default) };
    match spec.read(value) {
        Ok(read) => {
            if let Need::Required(what) = spec.need
                && read == ""
                && !problems.is_wrong(key)
            {
                let source = match problems.origin(key).as_str() {
                    DEFAULT_SOURCE => "not set anywhere".to_owned(),
                    source => format!("{source}, where it is empty"),
                };
                problems.add_from(source, key, "is missing", format!("set {}, to {what}", places(key, spec)));
                return or_placeholder(None);
            }
            read
        }
        Err(message) => {
            let shown = if spec.secret { String::new() } else { format!("= {} ", quoted(value)) };
            problems.add(key, format!("{shown}{message}"), format!("give {}", spec.kind.expects()));
            or_placeholder(default)
        }
    }
}

/// The places where a key can be set, most usual first.
fn places(key: &str, spec: &Spec) -> String {
    let own = format!("NIGHTFERRY__{}", key.replace('.', "__").replace('-', "_").to_ascii_uppercase());
    let usual: Vec<&str> =
        usual::names_of(spec.key).filter(|usual| usual.key == key).map(|usual| usual.name).collect();
    let environment = if usual.is_empty() { own } else { format!("{} or {own}", usual.join(" or ")) };
    format!("{environment} in the environment, or {key} in the file")
}

fn quoted(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => format!("\"{}\"", text.escape_debug()),
        ValueKind::Array(_) => "[…]".to_owned(),
        other => other.to_string(),
    }
}

fn shown(spec: &Spec, value: &Json) -> String {
    match value {
        Json::String(text) if spec.secret && !text.is_empty() => MASK.to_owned(),
        Json::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn insert(tree: &mut JsonMap<String, Json>, key: &str, value: Json) {
    match key.split_once('.') {
        None => {
            tree.insert(key.to_owned(), value);
        }
        Some((section, rest)) => {
            let inner = tree.entry(section).or_insert_with(|| Json::Object(JsonMap::new()));
            if let Json::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}
