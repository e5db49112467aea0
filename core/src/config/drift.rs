//! Proves that the table, the structs, the defaults, the example file and the documentation say the same.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use config::Value;
use serde_json::Value as Json;

use super::layer;
use super::merge;
use super::problem::Problems;
use super::spec::Kind;
use super::{Config, LoadOptions, configuration_tables, example_toml, table, usual};

const BLESS: &str = "NIGHTFERRY_BLESS=1 cargo test --workspace config::drift";

fn at_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// Compares a generated text with its committed file, or renews the file when asked to.
fn assert_current(path: &str, wanted: &str) {
    let file = at_root(path);
    if std::env::var_os("NIGHTFERRY_BLESS").is_some() {
        std::fs::write(&file, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "{path} is stale; renew it with: {BLESS}");
}

#[test]
fn example_toml_is_current() {
    assert_current("config/example.toml", &example_toml());
}

#[test]
fn configuration_page_is_current() {
    const BEGIN: &str = "<!-- generated: begin -->\n";
    const END: &str = "<!-- generated: end -->\n";
    let page = std::fs::read_to_string(at_root("docs/configuration.md")).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has a line that begins the generated part");
    let (_, after) = rest.split_once(END).expect("the page has a line that ends the generated part");
    let tables = configuration_tables();
    assert_current("docs/configuration.md", &format!("{before}{BEGIN}{tables}\n{END}{after}"));
}

/// The defaults as the tree from which the structs are made.
fn default_tree() -> Json {
    let mut problems = Problems::default();
    let one_of_each =
        [("policy.rules.1.name", "one"), ("policy.prices.1.store", "s3"), ("auth.oidc.one.client_id", "x")];
    let overrides = one_of_each.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let layers = layer::all(LoadOptions { overrides, ..LoadOptions::default() }, &mut problems);
    let merged = merge::merge(layers, &mut problems);
    merge::typed(&merged, &mut problems).0
}

/// A key that is in that tree.
fn concrete(key: &str) -> String {
    key.replace("stores.*", "stores.s3").replace("oidc.*", "oidc.one").replace('*', "1")
}

fn remove(tree: &mut Json, key: &str) -> Option<Json> {
    let (section, name) = key.rsplit_once('.')?;
    let section = section.split('.').try_fold(tree, |tree, part| tree.get_mut(part))?;
    section.as_object_mut()?.remove(name)
}

#[test]
fn structs_have_exactly_the_keys_of_the_table() {
    // Unknown fields are denied and none has a default in serde, so the whole tree fits only if the struct has no
    // field beyond it, and it stops fitting without a key only if the struct has that field.
    serde_json::from_value::<Config>(default_tree()).unwrap();
    for spec in table::all() {
        let key = concrete(spec.key);
        let mut tree = default_tree();
        remove(&mut tree, &key).unwrap_or_else(|| panic!("{key} is not in the tree"));
        let error = serde_json::from_value::<Config>(tree).expect_err(&key).to_string();
        assert!(error.contains(spec.name()), "{key}: {error}");
    }
}

#[test]
fn default_toml_has_exactly_the_keys_of_the_table() {
    let defaults = layer::defaults(&mut Problems::default());
    let found: BTreeSet<String> = defaults.entries.keys().map(|key| table::pattern(key)).collect();
    let wanted: BTreeSet<String> = table::all().map(|spec| spec.key.to_owned()).collect();
    assert_eq!(found, wanted);
    for (key, value) in &defaults.entries {
        let read = table::find(key).unwrap().read(value);
        assert!(read.is_ok(), "{key}: {read:?}");
    }
}

#[test]
fn keys_and_usual_names_are_unique_and_known() {
    let keys: Vec<&str> = table::all().map(|spec| spec.key).collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    let names: BTreeSet<&str> = usual::USUAL_NAMES.iter().map(|usual| usual.name).collect();
    assert_eq!(names.len(), usual::USUAL_NAMES.len());
    for usual in usual::USUAL_NAMES {
        assert!(table::find(usual.key).is_some(), "{} means no setting", usual.name);
    }
}

#[test]
fn structs_take_the_bounds_of_every_range() {
    for spec in table::all() {
        let bounds: Vec<Json> = match spec.kind {
            Kind::Integer { min, max, .. } => vec![min.into(), max.into()],
            Kind::Switch => vec![true.into(), false.into()],
            Kind::OneOf(words) => words.iter().map(|word| Json::from(*word)).collect(),
            Kind::DurationOrNever => vec!["never".into(), "0s".into()],
            Kind::Duration { .. } | Kind::Text { .. } => continue,
        };
        for bound in bounds {
            let key = concrete(spec.key);
            let mut tree = default_tree();
            let pointer = format!("/{}", key.replace('.', "/"));
            *tree.pointer_mut(&pointer).unwrap() = bound.clone();
            let fits = serde_json::from_value::<Config>(tree);
            assert!(fits.is_ok(), "{key} = {bound}: {fits:?}");
        }
    }
}

#[test]
fn every_line_of_the_example_is_valid_once_uncommented() {
    let text: String = example_toml()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(header) if header.starts_with('[') => format!("{header}\n"),
            Some(setting) if !setting.starts_with(' ') && setting.contains(" = ") => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nightferry.toml");
    std::fs::write(&file, text).unwrap();
    let overrides = [
        ("auth.secret_key", "0123456789abcdef0123456789abcdef"),
        ("stores.s3.access_key", "key"),
        ("stores.s3.secret_key", "secret"),
    ];
    let overrides = overrides.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
    let config = Config::load(LoadOptions { file: Some(file.clone()), overrides, ..LoadOptions::default() });
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    let of_file = config.settings().iter().filter(|setting| setting.source.contains("nightferry.toml"));
    assert!(of_file.count() + 8 > table::all().count(), "the example leaves settings out");
}

#[test]
fn every_text_rule_refuses_without_repeating_the_text() {
    const POISON: &str = "p\u{1}oison in the text";
    for spec in table::all() {
        if let Err(message) = spec.read(&Value::new(None, POISON)) {
            assert!(!message.contains("oison"), "{}: {message}", spec.key);
        }
    }
}

#[test]
fn env_example_has_only_names_that_are_understood() {
    let text = std::fs::read_to_string(at_root(".env.example")).unwrap();
    let names: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .filter(|name| !name.contains(' '))
        .collect();
    for name in &names {
        assert!(usual::USUAL_NAMES.iter().any(|usual| usual.name == *name), "{name} is not understood");
    }
    assert!(names.contains(&"DATABASE_URL") && names.contains(&"LOG_LEVEL"), "{names:?}");
}
