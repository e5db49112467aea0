//! Checks that the example file and the reference page are up to date and that every declaration is consistent.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use config::Value;

use super::super::spec::Kind;
use super::super::{Config, LoadOptions, configuration_tables, env_aliases, example_toml, table};

const BLESS: &str = "NIGHTFERRY_BLESS=1 cargo test --workspace config::tests::reference_docs";

fn at_root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Compares a generated text with its committed file, or updates the file on request.
fn assert_current(path: &str, wanted: &str) {
    let file = at_root(path);
    if std::env::var_os("NIGHTFERRY_BLESS").is_some() {
        std::fs::write(&file, wanted).unwrap();
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "{path} is stale; update it with: {BLESS}");
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
    let (before, rest) = page.split_once(BEGIN).expect("the page marks the start of the generated part");
    let (_, after) = rest.split_once(END).expect("the page marks the end of the generated part");
    let tables = configuration_tables();
    assert_current("docs/configuration.md", &format!("{before}{BEGIN}{tables}\n{END}{after}"));
}

#[test]
fn keys_and_aliases_are_unique_and_known() {
    let keys: Vec<&str> = table::all().map(|spec| spec.key.as_str()).collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    let names: BTreeSet<&str> = env_aliases::ENV_ALIASES.iter().map(|alias| alias.name).collect();
    assert_eq!(names.len(), env_aliases::ENV_ALIASES.len());
    for alias in env_aliases::ENV_ALIASES {
        assert!(table::find(alias.key).is_some(), "{} means no setting", alias.name);
    }
}

#[test]
fn types_can_hold_the_bounds_of_every_range() {
    for spec in table::all() {
        let bounds = match spec.kind {
            Kind::Integer { min, max, .. } => [min.to_string(), max.to_string()],
            Kind::Duration { min, max } => [min.to_owned(), max.to_owned()],
            _ => continue,
        };
        for bound in bounds {
            assert!(spec.read(&Value::new(None, bound.as_str())).is_ok(), "{}: {bound}", spec.key);
            let name = if spec.key.starts_with("policy.") { "1" } else { "s3" };
            let overrides = vec![(spec.key.replace('*', name), bound)];
            let errors = Config::load(LoadOptions { overrides, ..LoadOptions::default() }).unwrap_err();
            assert!(!errors.to_string().contains("report this as a bug"), "{errors}");
        }
    }
}

#[test]
fn defaults_and_examples_are_valid_values() {
    for spec in table::all() {
        let read = spec.read(&Value::new(None, spec.default.clone()));
        assert!(read.is_ok(), "{}: {read:?}", spec.key);
        let example = spec.example.map(|example| spec.read(&Value::new(None, example)));
        assert!(example.is_none_or(|read| read.is_ok()), "{}: {:?}", spec.key, spec.example);
    }
}

#[test]
fn every_former_name_is_unused_and_maps_to_its_setting() {
    for spec in table::all() {
        let Some(former) = spec.former else { continue };
        let key = format!("{}.{former}", spec.section());
        assert!(table::find(&key).is_none(), "{key} is a setting");
        assert_eq!(table::renamed(&key).as_ref(), Some(&spec.key));
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
fn no_validator_repeats_the_rejected_text() {
    const POISON: &str = "p\u{1}oison in the text";
    for spec in table::all() {
        if let Err(message) = spec.read(&Value::new(None, POISON)) {
            assert!(!message.contains("oison"), "{}: {message}", spec.key);
        }
    }
}

#[test]
fn env_example_contains_only_supported_names() {
    let text = std::fs::read_to_string(at_root(".env.example")).unwrap();
    let names: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix('#').unwrap_or(line))
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .filter(|name| !name.contains(' '))
        .collect();
    for name in &names {
        assert!(env_aliases::ENV_ALIASES.iter().any(|alias| alias.name == *name), "{name} is not valid");
    }
    assert!(names.contains(&"DATABASE_URL") && names.contains(&"LOG_LEVEL"), "{names:?}");
}
