//! I7: a copy is deleted only if another one was seen whole, by a HEAD or GET request, after its last change. Judged by
//! the stores in memory, which record every change, response and deletion in one order.
//!
//! Between the decision and the deletion, in which nothing but a crash or a hung process can intervene, the other copy
//! may be destroyed from outside: what was shown at the time of the decision counts too.

use std::collections::BTreeMap;

use bytes::Bytes;
use nightferry_core::checksum::Sha256;
use nightferry_core::ids::FileId;
use nightferry_tests::harness::memory_s3::What;
use uuid::Uuid;

use crate::op::Place;
use crate::oracle::{Oracle, Version};

/// Something on which a deletion depends.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    /// See [`nightferry_tests::harness::memory_s3::moment`].
    pub(crate) moment: u64,
    pub(crate) key: String,
    pub(crate) fact: Fact,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fact {
    InStore(Place, What),
    /// The engine is about to check whether a copy may be deleted.
    Considered,
    /// The engine has decided that a copy may be deleted.
    Decided,
}

/// What has been shown of the copies.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// The content of copies that were shown since their last change.
    shown: BTreeMap<(Place, String), Sha256>,
    /// The same at the time of the last decision, by key.
    decided: BTreeMap<String, Vec<(Place, Sha256)>>,
}

impl Evidence {
    /// Continues with what has happened since, in any order.
    pub(crate) fn judge(&mut self, oracle: &Oracle, mut notes: Vec<Note>) -> Result<(), String> {
        notes.sort_by_key(|note| note.moment);
        for Note { key, fact, .. } in notes {
            match fact {
                Fact::Considered => {
                    self.decided.remove(&key);
                }
                Fact::Decided => {
                    let shown = self.of(&key);
                    self.decided.insert(key, shown);
                }
                Fact::InStore(place, What::Changed) => {
                    self.shown.remove(&(place, key));
                }
                Fact::InStore(place, What::Shown(content)) => {
                    self.shown.insert((place, key), content);
                }
                Fact::InStore(place, What::Deleted(content)) => {
                    self.was_permitted(oracle, place, &key, content)?;
                    self.decided.remove(&key);
                    self.shown.remove(&(place, key));
                }
            }
        }
        Ok(())
    }

    fn of(&self, key: &str) -> Vec<(Place, Sha256)> {
        let in_place = |place| Some((place, *self.shown.get(&(place, key.to_owned()))?));
        Place::ALL.into_iter().filter_map(in_place).collect()
    }

    /// `content` is what was deleted. Damaged copies are not copies.
    fn was_permitted(&self, oracle: &Oracle, place: Place, key: &str, content: Sha256) -> Result<(), String> {
        let is_it = |known: &str, whole: Sha256| known == key && whole == content;
        if oracle.forgotten.iter().any(|version| is_it(&version.key, version.sha256))
            && !oracle.unlabelled.contains(&(place, key.to_owned()))
        {
            return Err(format!(
                "I7: {key} was deleted from {}, and is newer than the database",
                place.name()
            ));
        }
        if !oracle.kept().any(|version| is_it(&version.key, version.sha256)) {
            return Ok(());
        }
        let mut others = self.of(key);
        others.extend(self.decided.get(key).into_iter().flatten());
        if others.iter().any(|(other, shown)| *other != place && *shown == content) {
            return Ok(());
        }
        Err(format!(
            "I7: {key} was deleted from {}, and no other copy was seen whole since its last change",
            place.name()
        ))
    }
}

/// Judges a deletion of the local copy of a version after these events.
fn judged(before: &[(&str, Fact)], is_known: bool) -> Result<(), String> {
    let content = Sha256::of(b"content");
    let version = Version {
        file: FileId::new(),
        number: 1,
        object: Uuid::nil(),
        key: KEY.to_owned(),
        bytes: Bytes::from_static(b"content"),
        sha256: content,
        purged: false,
    };
    let mut oracle = Oracle::default();
    if is_known {
        oracle.versions.push(version);
    } else {
        oracle.forgotten.push(version);
    }
    let deleted = (KEY, Fact::InStore(Place::Local, What::Deleted(content)));
    let notes = (0..).zip(before.iter().chain([&deleted]));
    let notes = notes.map(|(moment, (key, fact))| Note { moment, key: (*key).to_owned(), fact: *fact });
    Evidence::default().judge(&oracle, notes.collect())
}

const KEY: &str = "key";

#[test]
fn a_deletion_is_permitted_only_after_another_copy_was_seen_whole() {
    let content = Sha256::of(b"content");
    let seen = (KEY, Fact::InStore(Place::Cloud, What::Shown(content)));
    let changed = (KEY, Fact::InStore(Place::Cloud, What::Changed));
    let (considered, decided) = ((KEY, Fact::Considered), (KEY, Fact::Decided));
    let permitted: [&[(&str, Fact)]; 3] =
        [&[changed, seen], &[considered, seen, decided], &[considered, seen, decided, changed]];
    for before in permitted {
        judged(before, true).unwrap();
        assert!(judged(before, false).unwrap_err().contains("newer than the database"), "{before:?}");
    }
    let other = Sha256::of(b"other content");
    let forbidden: [&[(&str, Fact)]; 7] = [
        &[],
        &[seen, changed],
        &[(KEY, Fact::InStore(Place::Local, What::Shown(content)))],
        &[(KEY, Fact::InStore(Place::Cloud, What::Shown(other)))],
        &[("another key", Fact::InStore(Place::Cloud, What::Shown(content)))],
        &[seen, changed, considered, decided],
        &[considered, seen, decided, changed, considered],
    ];
    for before in forbidden {
        assert!(judged(before, true).unwrap_err().starts_with("I7:"), "{before:?}");
    }
}
