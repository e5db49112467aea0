//! The metadata stored with every object, so that the catalogue can be rebuilt from a store alone: object, owner, file
//! and version. Pure. Values are percent-encoded (see [`super::options`]); what exceeds S3's limit of 2 KB is omitted,
//! and the metadata records the omission.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::options::{metadata, metadata_cost};
use crate::checksum::{Crc64Nvme, Sha256};

/// Of S3's 2,048 bytes (`PutObject`, user-defined metadata); the rest is reserved for later versions.
const BUDGET: usize = 1_792;
/// Reserved for recording omissions.
const CUT_BUDGET: usize = 80;
/// Paths deeper than this are not plausible.
const MAX_DEPTH: usize = 256;
/// Maximum number of further versions to store.
const MAX_SHARED_VERSIONS: usize = 16;

/// The metadata, as far as known when the object is written, or as far as it could be parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Label {
    /// Object.
    pub object: Option<Uuid>,
    /// Owner account.
    pub owner: Option<Uuid>,
    /// Email address of the owner.
    pub email: Option<String>,
    /// File.
    pub file: Option<Uuid>,
    /// Version number.
    pub version: Option<i32>,
    /// The file's name.
    pub name: Option<String>,
    /// Name at upload, if different.
    pub original: Option<String>,
    /// Names of the folders from the root to the file; empty for the root folder.
    pub folder: Vec<String>,
    /// Upload time.
    pub time: Option<DateTime<Utc>>,
    /// SHA-256 of the content.
    pub sha256: Option<Sha256>,
    /// CRC-64/NVME of the content.
    pub crc64nvme: Option<Crc64Nvme>,
    /// Further versions with the same object.
    pub also: Vec<Shared>,
}

/// A further version with the same object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// File.
    #[serde(rename = "f")]
    pub file: Uuid,
    /// Version.
    #[serde(rename = "v")]
    pub version: i32,
    /// The file's name.
    #[serde(rename = "n")]
    pub name: String,
    /// Names of the folders from the root to the file.
    #[serde(rename = "d", default, skip_serializing_if = "Vec::is_empty")]
    pub folder: Vec<String>,
}

/// Metadata being built, and the remaining space.
struct Filling {
    entries: BTreeMap<&'static str, String>,
    left: usize,
    cut: BTreeSet<&'static str>,
}

impl Filling {
    /// Adds an entry if it fits.
    fn add(&mut self, name: &'static str, text: Option<String>) -> bool {
        let Some(text) = text else { return true };
        let cost = metadata_cost(name, &text);
        if cost > self.left {
            return false;
        }
        self.left -= cost;
        self.entries.insert(name, text);
        true
    }

    fn add_or_cut(&mut self, name: &'static str, text: Option<String>) {
        if !self.add(name, text) {
            self.cut.insert(name);
        }
    }
}

impl Label {
    /// The metadata entries, most important first; of a folder path that is too long, the end is kept.
    pub fn metadata(&self) -> BTreeMap<&'static str, String> {
        let mut filling =
            Filling { entries: BTreeMap::new(), left: BUDGET - CUT_BUDGET, cut: BTreeSet::new() };
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
        for (name, text) in [
            (metadata::OBJECT, self.object.map(|id| id.to_string())),
            (metadata::OWNER, self.owner.map(|id| id.to_string())),
            (metadata::SHA256, self.sha256.map(|hash| hash.to_string())),
            (metadata::CRC64NVME, self.crc64nvme.map(|crc| format!("{:016x}", crc.as_u64()))),
            (metadata::TIME, self.time.map(time)),
            (metadata::FILE, self.file.map(|id| id.to_string())),
            (metadata::VERSION, self.version.map(|number| number.to_string())),
            (metadata::NAME, self.name.clone()),
            (metadata::EMAIL, self.email.clone()),
        ] {
            filling.add_or_cut(name, text);
        }
        self.add_folder(&mut filling);
        filling.add_or_cut(metadata::ORIGINAL, self.original.clone());
        self.add_shared(&mut filling);
        let cut: Vec<&str> = filling.cut.iter().filter_map(|name| name.strip_prefix("nf-")).collect();
        if !cut.is_empty() {
            filling.entries.insert(metadata::CUT, cut.join(","));
        }
        filling.entries
    }

    fn add_folder(&self, filling: &mut Filling) {
        for first in 0..self.folder.len() {
            let kept = self.folder.get(first..).unwrap_or_default();
            if filling.add(metadata::FOLDER, Some(kept.join("/"))) {
                return;
            }
            filling.cut.insert(metadata::FOLDER);
        }
    }

    fn add_shared(&self, filling: &mut Filling) {
        let most = self.also.len().min(MAX_SHARED_VERSIONS);
        for kept in (0..=most).rev() {
            if kept < self.also.len() {
                filling.cut.insert(metadata::ALSO);
            }
            let text = self.also.get(..kept).filter(|kept| !kept.is_empty());
            // Ids, numbers and strings can always be serialized.
            let text = text.and_then(|kept| serde_json::to_string(kept).ok());
            if filling.add(metadata::ALSO, text) {
                return;
            }
        }
    }

    /// Parses metadata. Values that [`Label::metadata`] cannot have written are ignored: anyone may have written them.
    pub fn read(entries: &BTreeMap<String, String>) -> Self {
        fn parsed<T: std::str::FromStr>(text: Option<&String>) -> Option<T> {
            text?.parse().ok()
        }
        let text = |name: &str| entries.get(name);
        let crc = text(metadata::CRC64NVME).filter(|digits| digits.len() == 16);
        let folder: Vec<String> = text(metadata::FOLDER)
            .filter(|path| !path.is_empty())
            .map_or_else(Vec::new, |path| path.split('/').map(str::to_owned).collect());
        let also: Vec<Shared> =
            text(metadata::ALSO).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default();
        Self {
            object: parsed(text(metadata::OBJECT)),
            owner: parsed(text(metadata::OWNER)),
            email: text(metadata::EMAIL).cloned(),
            file: parsed(text(metadata::FILE)),
            version: parsed(text(metadata::VERSION)).filter(|number| *number >= 1),
            name: text(metadata::NAME).cloned(),
            original: text(metadata::ORIGINAL).cloned(),
            folder: if folder.len() > MAX_DEPTH { Vec::new() } else { folder },
            time: parsed(text(metadata::TIME)),
            sha256: parsed(text(metadata::SHA256)),
            crc64nvme: crc.and_then(|digits| u64::from_str_radix(digits, 16).ok()).map(Crc64Nvme::from_u64),
            also: also.into_iter().take(MAX_SHARED_VERSIONS).filter(|shared| shared.version >= 1).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn full(name: &str, folder: Vec<String>) -> Label {
        Label {
            object: Some(Uuid::from_u128(1)),
            owner: Some(Uuid::from_u128(2)),
            email: Some("ada@example.org".to_owned()),
            file: Some(Uuid::from_u128(3)),
            version: Some(i32::MAX),
            name: Some(name.to_owned()),
            original: Some(format!("{name}x")),
            folder,
            time: "2026-11-21T00:00:03.123456Z".parse().ok(),
            sha256: Some(Sha256::of(b"a")),
            crc64nvme: Some(Crc64Nvme::of(b"a")),
            also: Vec::new(),
        }
    }

    fn read_back(label: &Label) -> Label {
        Label::read(&label.metadata().into_iter().map(|(name, text)| (name.to_owned(), text)).collect())
    }

    fn cost(label: &Label) -> usize {
        label.metadata().iter().map(|(name, text)| metadata_cost(name, text)).sum()
    }

    #[test]
    fn labels_that_fit_round_trip() {
        let mut label = full("Übersicht 2026 – 写真.pdf", vec!["Ä b".to_owned(), "100%".to_owned()]);
        label.also = vec![Shared {
            file: Uuid::from_u128(4),
            version: 2,
            name: "ü".to_owned(),
            folder: vec!["d".to_owned()],
        }];
        assert_eq!(read_back(&label), label);
        assert!(label.metadata().values().all(|text| !text.is_empty()));
    }

    #[test]
    fn the_longest_name_is_kept_and_omitted_fields_are_listed() {
        let label = full(&"写".repeat(85), vec!["写".repeat(85), "inner".to_owned()]);
        let back = read_back(&label);
        assert_eq!(back.name, label.name);
        assert_eq!(back.folder, ["inner"], "the end of the path");
        assert_eq!(back.original, None);
        assert_eq!(label.metadata()[metadata::CUT], "directory,original");
        assert!(cost(&label) <= BUDGET);
    }

    #[test]
    fn further_versions_are_stored_as_far_as_they_fit() {
        let mut label = full("a", Vec::new());
        let shared = |number| Shared {
            file: Uuid::from_u128(9),
            version: number,
            name: "name of a version".to_owned(),
            folder: Vec::new(),
        };
        label.also = (1..=40).map(shared).collect();
        let back = read_back(&label);
        assert!(!back.also.is_empty() && back.also.len() <= MAX_SHARED_VERSIONS);
        assert!(label.also.starts_with(&back.also));
        assert!(label.metadata()[metadata::CUT].contains("also"));
        assert!(cost(&label) <= BUDGET);
    }

    #[test]
    fn invalid_label_fields_are_ignored() {
        let wrong = ["nf-object", "nf-version", "nf-time", "nf-sha256", "nf-crc64nvme", "nf-also"]
            .map(|name| (name.to_owned(), "-7".to_owned()));
        assert_eq!(Label::read(&wrong.into()), Label::default());
    }

    proptest! {
        #[test]
        fn no_label_is_larger_than_its_budget(name in any::<String>(), folder in any::<Vec<String>>(), email in any::<String>()) {
            let mut label = full(&name, folder);
            label.email = Some(email);
            prop_assert!(cost(&label) <= BUDGET, "{}", cost(&label));
        }

        #[test]
        fn reading_never_panics(entries in any::<BTreeMap<String, String>>(), text in any::<String>()) {
            let _ = Label::read(&entries);
            let _ = Label::read(&[(metadata::ALSO.to_owned(), text)].into());
        }
    }
}
