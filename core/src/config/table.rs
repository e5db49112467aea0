//! The one table of all settings, in the order in which they are shown, and how keys are found in it.

use super::spec::Spec;
use super::{
    audit, auth, catalog, database, health, limits, logging, oidc, policy, reconcile, scrub, server, stores,
    tiering, uploads,
};

/// The sections of which there are several: one for each name (`stores.minio`) or number (`policy.rules.1`). In the
/// table their keys have `*` in the place of it.
pub(super) const MANY: [&str; 4] = ["stores", "auth.oidc", "policy.rules", "policy.prices"];

/// Every setting of every section.
pub(super) fn all() -> impl Iterator<Item = &'static Spec> {
    [
        server::SETTINGS,
        uploads::SETTINGS,
        database::SETTINGS,
        auth::SETTINGS,
        oidc::SETTINGS,
        limits::SETTINGS,
        audit::SETTINGS,
        stores::SETTINGS,
        tiering::SETTINGS,
        health::SETTINGS,
        policy::SETTINGS,
        policy::RULE_SETTINGS,
        policy::PRICE_SETTINGS,
        reconcile::SETTINGS,
        scrub::SETTINGS,
        catalog::SETTINGS,
        logging::SETTINGS,
    ]
    .into_iter()
    .flatten()
}

/// The key in the table's form, with `*` for the name of a store or the number of a rule.
pub(super) fn pattern(key: &str) -> String {
    match member_of(key) {
        Some((section, _, field)) => format!("{section}.*.{field}"),
        None => key.to_owned(),
    }
}

/// Of a key in one of the sections of [`MANY`]: the section, the name or number, and the rest.
pub(super) fn member_of(key: &str) -> Option<(&'static str, &str, &str)> {
    let (section, rest) = many_of(key)?;
    let (name, field) = rest.split_once('.')?;
    Some((section, name, field))
}

/// The section of [`MANY`] that a key lies in, and the key within it.
pub(super) fn many_of(key: &str) -> Option<(&'static str, &str)> {
    MANY.iter().find_map(|section| Some((*section, key.strip_prefix(section)?.strip_prefix('.')?)))
}

/// The name of the store and the rest of a key `stores.NAME.REST`.
pub(super) fn store_of(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix("stores.")?.split_once('.')
}

/// The row for a key.
pub(super) fn find(key: &str) -> Option<&'static Spec> {
    let pattern = pattern(key);
    all().find(|spec| spec.key == pattern)
}

/// Whether the key is that of a section, such as `server` or `stores.minio`.
pub(super) fn is_section(key: &str) -> bool {
    match many_of(key) {
        Some((_, name)) => !name.contains('.'),
        None => MANY.contains(&key) || all().any(|spec| spec.section() == key),
    }
}

/// The known key that was probably meant by an unknown one.
pub(super) fn suggestion(key: &str) -> Option<String> {
    let known: Vec<String> = all()
        .map(|spec| match member_of(key) {
            Some((section, name, _)) if spec.key.starts_with(section) => spec.key.replace('*', name),
            _ => spec.key.to_owned(),
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

/// The only key with the same last part, for a setting that was written in the wrong section.
fn in_another_section(key: &str, known: &[String]) -> Option<String> {
    let name = key.rsplit('.').next()?;
    let mut same = known.iter().filter(|known| known.rsplit('.').next() == Some(name));
    match (same.next(), same.next()) {
        (Some(only), None) => Some(only.replace('*', "NAME")),
        _ => None,
    }
}
