//! One policy rule: its conditions and its actions.

use std::time::Duration;

use super::Globs;
use crate::declare::settings;
use crate::problem::Problems;
use crate::{Config, FreeLocalAfter, StoreRole, VerifyMode, table, validators};
use nightferry_ground::units::ByteCount;

/// Classes whose objects cannot be read without a restore.
const ARCHIVES: [&str; 2] = ["GLACIER", "DEEP_ARCHIVE"];

settings! {
    /// A `[[policy.rules]]` section. A condition that is not set always matches, and an action that is not set defaults
    /// to `[tiering]`.
    pub struct RuleConfig {
        /// Name of the rule, recorded for every file that it matches. At most 32 characters a-z, 0-9 and hyphen,
        /// starting with a letter.
        pub name: String,
            text("a name of a-z, 0-9 and hyphen, such as \"old-videos\"", validators::rule_name),
            required("a descriptive name, such as \"old-videos\""), example("old-videos");
        /// Matches files whose bytes were uploaded at least this long ago.
        pub older_than: Option<Duration>, lasts("0s", "36500d"), unset("any age"), example("90d");
        /// Matches files whose bytes were uploaded less than this long ago.
        pub newer_than: Option<Duration>, lasts("0s", "36500d"), unset("any age");
        /// Matches files that were not downloaded for at least this long; the upload counts as a use.
        pub unused_for: Option<Duration>, lasts("0s", "36500d"), unset("any time");
        /// Matches files that were uploaded or downloaded less than this long ago.
        pub used_within: Option<Duration>, lasts("0s", "36500d"), unset("any time");
        /// Matches files of at least this size.
        pub min_size: Option<ByteCount>, unset("any size");
        /// Matches files of at most this size.
        pub max_size: Option<ByteCount>, unset("any size");
        /// Matches files of these MIME types, ignoring parameters: patterns separated by commas, at least one of which
        /// must match; `*` matches anything but a slash, `?` one character.
        pub content_type: Globs,
            text("patterns such as \"video/*, image/raw\"", validators::content_types), unset("any type"),
            example("video/*");
        /// Matches files in these folders: patterns separated by commas, at least one of which must match the whole
        /// path of the folder; `*` matches anything but a slash, `**` anything, `?` one character. The root folder of
        /// every account is "/".
        pub path: Globs, text("patterns such as \"/projects/**\"", validators::folder_paths), unset("any \
            folder");
        /// Matches files of these accounts: patterns for the email address, separated by commas.
        pub owner: Globs,
            text("addresses such as \"ada@example.org, *@example.com\"", validators::parsed::<Globs>),
            unset("any account");
        /// Matches files whose primary location is this store: the local store until a cloud copy is verified, then the
        /// cloud store.
        pub location: Option<String>, text("the name of a store", validators::store_name), unset("any \
            location");
        /// Matches versions of files that have at least this many newer versions.
        pub versions_behind: u32 = 0, range(0, 1_000_000);
        /// The stores to which matching files are copied, separated by commas. If it is only the name of the local
        /// store, the files stay there and are not copied.
        pub stores: Vec<String>,
            text("names of cloud stores, or only that of the local store", validators::store_names),
            unset("tiering.cloud_store");
        /// Storage class of new copies, including archive classes. Existing copies keep their class.
        pub storage_class: Option<String>,
            text("a storage class such as \"STANDARD_IA\"", validators::any_storage_class), unset("the \
                class of the store"),
            example("STANDARD_IA");
        /// Whether the local copy is kept permanently, also when the local store is above its high watermark.
        pub keep_local: bool = false;
        /// How long after the verification of the cloud copy the local copy is evicted; "never" keeps it as long as the
        /// local store is below its high watermark.
        pub free_local_after: Option<FreeLocalAfter>, unset("tiering.free_local_after"), example("7d");
        /// Copies with a higher priority are made first in every run.
        pub priority: i16 = 0, range(0, 100);
    }
}

impl RuleConfig {
    /// Whether the rule has no condition.
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

    /// Eviction of the local copy.
    pub fn evicts_after(&self, local: &str, otherwise: FreeLocalAfter) -> FreeLocalAfter {
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
                "is not less than newer_than, so that nothing matches both",
                "make newer_than longer than older_than",
            );
        }
        if !ordered(self.unused_for, self.used_within) {
            between(
                problems,
                ["unused_for", "used_within"],
                "is not less than used_within, so that nothing matches both",
                "make used_within longer than unused_for",
            );
        }
        if self.min_size.zip(self.max_size).is_some_and(|(min, max)| min > max) {
            between(
                problems,
                ["min_size", "max_size"],
                "is more than max_size, so that nothing matches both",
                "make max_size larger than min_size",
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
                    format!("names \"{store}\", whose role is \"local\" and which receives no copies"),
                    format!("name cloud stores, or only \"{local}\" for files that stay there"),
                ),
                Some(_) => {}
            }
        }
        let stays = self.stays(local);
        if stays && self.stores.len() > 1 {
            problems.add(
                &key("stores"),
                format!("names \"{local}\", which means that files stay there, together with other stores"),
                "to copy files and keep their local copies, name the cloud stores and set keep_local = \
                    true",
            );
        }
        if stays && self.storage_class.is_some() {
            between(
                problems,
                ["storage_class", "stores"],
                "applies to copies, but this rule makes none",
                "remove storage_class or stores",
            );
        }
        if (stays || self.keep_local) && self.free_local_after.is_some() {
            let why = if stays { "stores" } else { "keep_local" };
            between(
                problems,
                ["free_local_after", why],
                &format!("contradicts {why}, which keeps the local copy"),
                "remove one of them",
            );
        }
        let archive = self.storage_class.as_deref().filter(|class| ARCHIVES.contains(class));
        if let Some(class) = archive.filter(|_| config.tiering.verify == VerifyMode::ReadBack) {
            problems.add_between(
                &[&key("storage_class"), "tiering.verify"],
                format!(
                    "= \"{class}\" of the rule \"{}\" is an archive class, whose copies cannot be read \
                    back for verification",
                    self.name
                ),
                "set tiering.verify = \"checksum\", or choose a class without restores",
            );
        }
    }
}

/// Whether the rule with this number has a known error, and may therefore not be what was intended.
pub(super) fn is_wrong(number: u32, problems: &Problems) -> bool {
    let section = format!("policy.rules.{number}");
    table::all().any(|spec| {
        spec.section() == "policy.rules.*" && problems.is_wrong(&format!("{section}.{}", spec.name()))
    })
}

pub(super) fn unknown_store(key: &str, name: &str, config: &Config, problems: &mut Problems) {
    // A store with an error may be the one that was meant.
    let known: Vec<&str> = config.stores.keys().map(String::as_str).collect();
    problems.add(
        key,
        format!("names \"{name}\", which is not an enabled store"),
        format!("name one of: {}", known.join(", ")),
    );
}
