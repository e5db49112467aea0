//! The table of all settings, built from their declarations, in the order in which they are shown, and the lookup of
//! keys.

use std::sync::LazyLock;

use super::Config;
use super::declare::{Declared, Field as _};
use super::spec::Spec;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let mut table = Table::default();
    Config::describe(Declared { key: String::new(), doc: &[], form: Form::Single }, |spec| spec, &mut table);
    table
});

/// Every setting and every section.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub(super) settings: Vec<Spec>,
    pub(super) sections: Vec<Declared>,
}

/// How many sections of a kind exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// One.
    Single,
    /// One for each name, such as `stores.minio`; in the table the key is `stores.*`.
    Named,
    /// One for each number, such as `policy.rules.1`; in the table the key is `policy.rules.*`.
    Numbered,
}

/// Every setting.
pub(super) fn all() -> std::slice::Iter<'static, Spec> {
    TABLE.settings.iter()
}

/// The section with this key in the table.
pub(super) fn section(key: &str) -> Option<&'static Declared> {
    TABLE.sections.iter().find(|section| section.key == key)
}

/// The sections of which several can exist, without the `*`.
fn several() -> impl Iterator<Item = (&'static str, Form)> {
    TABLE.sections.iter().filter_map(|section| Some((section.key.strip_suffix(".*")?, section.form)))
}

/// The key in the form of the list, with `*` for the name of a store or the number of a rule.
pub(super) fn pattern(key: &str) -> String {
    match member_of(key) {
        Some((section, _, field)) => format!("{section}.*.{field}"),
        None => key.to_owned(),
    }
}

/// Splits a key in a named or numbered section: the section, the name or number, and the rest.
pub(super) fn member_of(key: &str) -> Option<(&'static str, &str, &str)> {
    let (section, rest, _) = several_of(key)?;
    let (name, field) = rest.split_once('.')?;
    Some((section, name, field))
}

/// The named or numbered section that contains a key, and the key within it.
pub(super) fn several_of(key: &str) -> Option<(&'static str, &str, Form)> {
    several().find_map(|(section, form)| Some((section, key.strip_prefix(section)?.strip_prefix('.')?, form)))
}

/// The setting with this key.
pub(super) fn find(key: &str) -> Option<&'static Spec> {
    let pattern = pattern(key);
    all().find(|spec| spec.key == pattern)
}

/// The current key for a former key.
pub(super) fn renamed(key: &str) -> Option<String> {
    let (section, name) = key.rsplit_once('.')?;
    let pattern = pattern(key);
    let (of, _) = pattern.rsplit_once('.')?;
    let spec = all().find(|spec| spec.section() == of && spec.former == Some(name))?;
    Some(format!("{section}.{}", spec.name()))
}

/// Whether the key is that of a section, such as `server` or `stores.minio`.
pub(super) fn is_section(key: &str) -> bool {
    match several_of(key) {
        Some((_, name, _)) => !name.contains('.'),
        None => section(key).is_some() || several().any(|(section, _)| section == key),
    }
}

/// The known key that is most similar to an unknown one.
pub(super) fn suggestion(key: &str) -> Option<String> {
    let known: Vec<String> = all()
        .map(|spec| match member_of(key) {
            Some((section, name, _)) if spec.key.starts_with(section) => spec.key.replace('*', name),
            _ => spec.key.clone(),
        })
        .collect();
    let farthest = (key.len() / 5).max(2);
    let close = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(key, known), known))
        .filter(|(distance, _)| *distance <= farthest)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known.clone());
    close.or_else(|| in_another_section(key, &known))
}

/// The only key with the same last segment, for a setting in the wrong section.
fn in_another_section(key: &str, known: &[String]) -> Option<String> {
    let name = key.rsplit('.').next()?;
    let mut same = known.iter().filter(|known| known.rsplit('.').next() == Some(name));
    match (same.next(), same.next()) {
        (Some(only), None) => Some(only.replace('*', "NAME")),
        _ => None,
    }
}
