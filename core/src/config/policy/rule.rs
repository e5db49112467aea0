//! One rule of the policy: which files it is for, and what becomes of them.

use std::time::Duration;

use serde::Deserialize;

use super::Globs;
use crate::config::problem::Problems;
use crate::config::spec::{Kind, Spec};
use crate::config::{Config, FreeLocalAfter, StoreRole, VerifyMode, rules, words};

/// Classes whose objects cannot be read without a restore.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

/// A `[[policy.rules]]` section. What it does not say matches everything, or stays as `[tiering]` says.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleConfig {
    /// Its name, which files remember.
    pub name: String,
    /// Bytes that were stored at least so long ago.
    #[serde(deserialize_with = "words::optional_duration")]
    pub older_than: Option<Duration>,
    /// Bytes that were stored less long ago.
    #[serde(deserialize_with = "words::optional_duration")]
    pub newer_than: Option<Duration>,
    /// Not downloaded for at least so long.
    #[serde(deserialize_with = "words::optional_duration")]
    pub unused_for: Option<Duration>,
    /// Downloaded, or stored, less long ago.
    #[serde(deserialize_with = "words::optional_duration")]
    pub used_within: Option<Duration>,
    /// Bytes at least.
    #[serde(deserialize_with = "words::bytes")]
    pub min_size: Option<u64>,
    /// Bytes at most.
    #[serde(deserialize_with = "words::bytes")]
    pub max_size: Option<u64>,
    /// MIME type.
    #[serde(deserialize_with = "words::parsed")]
    pub content_type: Globs,
    /// Folder.
    #[serde(deserialize_with = "words::parsed")]
    pub path: Globs,
    /// Email address of the owner.
    #[serde(deserialize_with = "words::parsed")]
    pub owner: Globs,
    /// Store where it is at home now.
    #[serde(deserialize_with = "words::optional")]
    pub location: Option<String>,
    /// Newer versions of the file at least.
    pub versions_behind: u32,
    /// Stores to which it is copied; none: the usual one.
    #[serde(deserialize_with = "words::list")]
    pub stores: Vec<String>,
    /// Storage class of the copies.
    #[serde(deserialize_with = "words::optional")]
    pub storage_class: Option<String>,
    /// Whether the local copy stays whatever happens.
    pub keep_local: bool,
    /// What becomes of the local copy; none: as `[tiering]` says.
    #[serde(deserialize_with = "words::optional_parsed")]
    pub free_local_after: Option<FreeLocalAfter>,
    /// Copies with a higher one are made first.
    pub priority: i16,
}

impl RuleConfig {
    /// Whether it has no condition.
    pub fn matches_everything(&self) -> bool {
        self.older_than.is_none()
            && self.newer_than.is_none()
            && self.unused_for.is_none()
            && self.used_within.is_none()
            && self.min_size.is_none()
            && self.max_size.is_none()
            && self.content_type.is_empty()
            && self.path.is_empty()
            && self.owner.is_empty()
            && self.location.is_none()
            && self.versions_behind == 0
    }

    /// Whether files stay in the local store and are not copied.
    pub fn stays(&self, local: &str) -> bool {
        self.stores.iter().any(|store| store == local)
    }

    /// What becomes of the local copy.
    pub fn frees(&self, local: &str, otherwise: FreeLocalAfter) -> FreeLocalAfter {
        if self.keep_local || self.stays(local) {
            return FreeLocalAfter::Never;
        }
        self.free_local_after.unwrap_or(otherwise)
    }

    pub(super) fn check(&self, number: u32, config: &Config, problems: &mut Problems) {
        let key = |field: &str| format!("policy.rules.{number}.{field}");
        let local = &config.tiering.local_store;
        let between = |problems: &mut Problems, fields: [&str; 2], message: &str, fix: &str| {
            let keys = fields.map(key);
            let message = format!("of the rule \"{}\" {message}", self.name);
            problems.add_between(&[&keys[0], &keys[1]], message, fix);
        };
        let ordered = |least: Option<Duration>, most: Option<Duration>| {
            least.zip(most).is_none_or(|(least, most)| least < most)
        };
        if !ordered(self.older_than, self.newer_than) {
            between(
                problems,
                ["older_than", "newer_than"],
                "is not less than newer_than, so nothing matches both",
                "make newer_than the longer one",
            );
        }
        if !ordered(self.unused_for, self.used_within) {
            between(
                problems,
                ["unused_for", "used_within"],
                "is not less than used_within, so nothing matches both",
                "make used_within the longer one",
            );
        }
        if self.min_size.zip(self.max_size).is_some_and(|(min, max)| min > max) {
            between(
                problems,
                ["min_size", "max_size"],
                "is more than max_size, so nothing matches both",
                "make max_size the larger one",
            );
        }
        if let Some(location) = &self.location
            && !config.stores.contains_key(location)
        {
            unknown_store(&key("location"), location, config, problems);
        }
        for store in &self.stores {
            match config.stores.get(store) {
                None => unknown_store(&key("stores"), store, config, problems),
                Some(_) if store == local => {}
                Some(other) if other.role == StoreRole::Local => problems.add(
                    &key("stores"),
                    format!("names \"{store}\", whose role is \"local\" and to which nothing is copied"),
                    format!("name cloud stores, or \"{local}\" alone for files that stay there"),
                ),
                Some(_) => {}
            }
        }
        let stays = self.stays(local);
        if stays && self.stores.len() > 1 {
            problems.add(
                &key("stores"),
                format!("names \"{local}\", which means that files stay there, and other stores"),
                "to copy files and keep the local copies too, name the cloud stores and set keep_local = true",
            );
        }
        if stays && self.storage_class.is_some() {
            between(
                problems,
                ["storage_class", "stores"],
                "is for copies, and this rule makes none",
                "leave storage_class or stores out",
            );
        }
        if (stays || self.keep_local) && self.free_local_after.is_some() {
            let why = if stays { "stores" } else { "keep_local" };
            between(
                problems,
                ["free_local_after", why],
                &format!("contradicts {why}, which keeps the local copy"),
                "leave one of them out",
            );
        }
        let archive = self.storage_class.as_deref().filter(|class| ARCHIVES.contains(class));
        if let Some(class) = archive.filter(|_| config.tiering.verify == VerifyMode::ReadBack) {
            problems.add_between(
                &[&key("storage_class"), "tiering.verify"],
                format!("= \"{class}\" of the rule \"{}\" is an archive class, whose copies cannot be read back to prove them", self.name),
                "set tiering.verify = \"checksum\", or choose a class that can be read at once",
            );
        }
    }
}

/// Whether something of the rule with this number is known to be wrong, so that it may not be what was meant.
pub(super) fn is_wrong(number: u32, problems: &Problems) -> bool {
    SETTINGS.iter().any(|spec| problems.is_wrong(&spec.key.replace('*', &number.to_string())))
}

pub(super) fn unknown_store(key: &str, name: &str, config: &Config, problems: &mut Problems) {
    // A store with something wrong in it may be the one that was meant.
    let known: Vec<&str> = config.stores.keys().map(String::as_str).collect();
    problems.add(
        key,
        format!("names \"{name}\", which is not an enabled store"),
        format!("name one of: {}", known.join(", ")),
    );
}

pub(in crate::config) const SETTINGS: &[Spec] = &[
    Spec::new(
        "policy.rules.*.name",
        Kind::Text { what: "a name of a-z, 0-9 and hyphen, such as \"old-videos\"", rule: rules::rule_name },
        "Its name, which every file that it decided on remembers. At most 32 of a-z, 0-9 and hyphen, beginning with a letter.",
    )
    .required("a name that says what the rule is for, such as \"old-videos\""),
    Spec::new(
        "policy.rules.*.older_than",
        Kind::seconds(0, 100 * 365 * 86_400),
        "For files whose bytes were uploaded at least so long ago.",
    )
    .optional("of any age"),
    Spec::new(
        "policy.rules.*.newer_than",
        Kind::seconds(0, 100 * 365 * 86_400),
        "For files whose bytes were uploaded less long ago.",
    )
    .optional("of any age"),
    Spec::new(
        "policy.rules.*.unused_for",
        Kind::seconds(0, 100 * 365 * 86_400),
        "For files that nobody has downloaded for at least so long; the upload counts as a use.",
    )
    .optional("whenever used"),
    Spec::new(
        "policy.rules.*.used_within",
        Kind::seconds(0, 100 * 365 * 86_400),
        "For files that were uploaded or downloaded less long ago.",
    )
    .optional("whenever used"),
    Spec::new(
        "policy.rules.*.min_size",
        Kind::Text { what: "a size such as \"100MiB\"", rule: rules::size },
        "For files of at least this size.",
    )
    .optional("of any size"),
    Spec::new(
        "policy.rules.*.max_size",
        Kind::Text { what: "a size such as \"128KiB\"", rule: rules::size },
        "For files of at most this size.",
    )
    .optional("of any size"),
    Spec::new(
        "policy.rules.*.content_type",
        Kind::Text { what: "patterns such as \"video/*, image/raw\"", rule: rules::content_types },
        "For files of these MIME types, whatever their parameters: patterns separated by commas, of which one must match; \
         * is anything but a slash, ? one character.",
    )
    .optional("of any type"),
    Spec::new(
        "policy.rules.*.path",
        Kind::Text { what: "patterns such as \"/projects/**\"", rule: rules::folder_paths },
        "For files in these folders: patterns separated by commas, of which one must match the folder's whole path; * is \
         anything but a slash, ** anything, ? one character. The top folder of every account is \"/\".",
    )
    .optional("in any folder"),
    Spec::new(
        "policy.rules.*.owner",
        Kind::Text { what: "addresses such as \"ada@example.org, *@example.com\"", rule: rules::globs },
        "For files of these accounts: patterns for the email address, separated by commas.",
    )
    .optional("of anybody"),
    Spec::new(
        "policy.rules.*.location",
        Kind::Text { what: "the name of a store", rule: rules::store_name },
        "For files that are at home in this store now: in the local one until a cloud copy is verified, then in the cloud's.",
    )
    .optional("wherever it is"),
    Spec::new(
        "policy.rules.*.versions_behind",
        Kind::count(0, 1_000_000),
        "For versions of files that have at least so many newer ones.",
    ),
    Spec::new(
        "policy.rules.*.stores",
        Kind::Text { what: "names of cloud stores, or of the local store alone", rule: rules::store_names },
        "The stores to which the files are copied, separated by commas. The local store's name alone: they stay there and \
         are not copied.",
    )
    .optional("tiering.cloud_store"),
    Spec::new(
        "policy.rules.*.storage_class",
        Kind::Text { what: "a storage class such as \"STANDARD_IA\"", rule: rules::any_storage_class },
        "Storage class of the copies that this rule makes, archive classes included. Copies that exist stay in their class.",
    )
    .optional("the store's own"),
    Spec::new(
        "policy.rules.*.keep_local",
        Kind::Switch,
        "Whether the local copy stays for good, also when the local store is over its high mark.",
    ),
    Spec::new(
        "policy.rules.*.free_local_after",
        Kind::DurationOrNever,
        "How long after the cloud copy was verified the local copy is freed; \"never\" keeps it as long as the local store \
         is below its high mark.",
    )
    .optional("tiering.free_local_after"),
    Spec::new(
        "policy.rules.*.priority",
        Kind::count(0, 100),
        "Copies with a higher priority are made first in every run.",
    ),
];
