//! The plain model: what was acknowledged, and what was destroyed from outside. Independent of the engine.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use nightferry_core::checksum::Sha256;
use nightferry_core::ids::FileId;
use nightferry_core::ids::UserId;
use nightferry_core::store::ObjectKey;
use uuid::Uuid;

use crate::check::{Map, Truth};
use crate::op::Place;
use crate::operation::Effect;

/// The expected state, according to the operations so far.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) files: Vec<File>,
    pub(crate) versions: Vec<Version>,
    /// Copies that were intact until they were damaged from outside.
    pub(crate) destroyed: BTreeSet<(Place, String)>,
    /// Keys written to a store from outside.
    pub(crate) strays: BTreeSet<(Place, String)>,
    /// Copies of versions written to a store from outside: without the metadata that tells whose they are.
    pub(crate) unlabelled: BTreeSet<(Place, String)>,
    /// Old keys written to a store from outside, with their age in seconds, that no pass has seen yet.
    pub(crate) newborn: BTreeMap<(Place, String), u32>,
    /// A worker that hung may have left something in a store.
    pub(crate) late: bool,
    /// A store may have stored other content than it received.
    pub(crate) corrupting: bool,
    /// Content may have been changed on the way to a reader.
    pub(crate) garbling: bool,
    /// Uploads that the database does not know, because an older backup was restored.
    pub(crate) forgotten: Vec<Version>,
    /// Objects that had no row when a backup was restored.
    pub(crate) unknown: BTreeSet<(Place, String)>,
    /// How often a backup of the database was restored.
    pub(crate) rewinds: u32,
    /// The store in which the last operation compared every object with its row.
    pub(crate) reconciled: Option<Place>,
}

/// A file that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) id: FileId,
    pub(crate) trashed: bool,
    pub(crate) purged: bool,
}

/// A version that was acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) file: FileId,
    pub(crate) number: i32,
    pub(crate) object: Uuid,
    pub(crate) key: String,
    pub(crate) bytes: Bytes,
    pub(crate) sha256: Sha256,
    pub(crate) purged: bool,
}

impl Oracle {
    /// Records the effect of an operation. `owner` and `name` are those of an upload.
    pub(crate) fn note(&mut self, owner: UserId, name: &str, effect: &Effect) {
        match effect {
            Effect::Nothing | Effect::Read(..) => {}
            Effect::Reconciled(place) => self.reconciled = Some(*place),
            Effect::Uploaded { file, object, bytes } => {
                if !self.files.iter().any(|known| known.id == *file) {
                    self.files.push(File { id: *file, trashed: false, purged: false });
                }
                let number = 1 + self.versions.iter().filter(|version| version.file == *file).count() as i32;
                self.versions.push(Version {
                    file: *file,
                    number,
                    object: *object,
                    key: ObjectKey::new(owner.0, *object, name).as_str().to_owned(),
                    sha256: Sha256::of(bytes),
                    bytes: bytes.clone(),
                    purged: false,
                });
            }
            Effect::Trashed(id) => self.file(*id).trashed = true,
            Effect::Restored(id) => self.file(*id).trashed = false,
            Effect::Purged(id) => {
                self.file(*id).purged = true;
                self.versions.iter_mut().filter(|version| version.file == *id).for_each(|v| v.purged = true);
            }
        }
    }

    fn file(&mut self, id: FileId) -> &mut File {
        self.files.iter_mut().find(|file| file.id == id).unwrap()
    }

    /// The database is again as it was when these were all files and versions. What is missing now was lost because of
    /// that, and not because of the engine.
    pub(crate) fn rewind(&mut self, files: Vec<File>, versions: Vec<Version>, truth: &Truth, map: &Map) {
        let known: BTreeSet<Uuid> = versions.iter().map(|version| version.object).collect();
        let later = std::mem::replace(&mut self.versions, versions).into_iter();
        self.forgotten.extend(later.filter(|version| !version.purged && !known.contains(&version.object)));
        self.files = files;
        self.rewinds += 1;
        self.reconciled = None;
        for version in self.versions.iter().filter(|version| !version.purged) {
            for place in Place::ALL {
                let is_there = truth[&place].get(&version.key) == Some(&version.sha256);
                if !is_there && map.wants(version.object, place) {
                    self.destroyed.insert((place, version.key.clone()));
                }
            }
        }
        for (place, contents) in truth {
            for key in contents.keys().filter(|key| !map.knows(*place, key)) {
                self.unknown.insert((*place, key.clone()));
                self.strays.insert((*place, key.clone()));
            }
        }
    }

    /// The file with this number, among those that are not permanently deleted.
    pub(crate) fn pick(&self, number: u8) -> Option<FileId> {
        let files: Vec<FileId> = self.files.iter().filter(|file| !file.purged).map(|file| file.id).collect();
        (!files.is_empty()).then(|| files[usize::from(number) % files.len()])
    }

    /// Versions that must be preserved.
    pub(crate) fn kept(&self) -> impl Iterator<Item = &Version> {
        self.versions.iter().filter(|version| !version.purged)
    }

    /// Whether the owner can download a version.
    pub(crate) fn is_live(&self, version: &Version) -> bool {
        self.files.iter().any(|file| file.id == version.file && !file.trashed && !file.purged)
    }

    /// Whether a download of a file may have returned this content: that of one of its versions, because a new version
    /// may have been uploaded meanwhile. Downloads are not verified, so versions that were damaged from outside may
    /// return anything.
    pub(crate) fn may_read(&self, file: FileId, read: Sha256) -> bool {
        let is_damaged = |version: &Version| {
            Place::ALL.iter().any(|place| self.destroyed.contains(&(*place, version.key.clone())))
        };
        let mut versions = self.versions.iter().filter(|version| version.file == file);
        self.garbling || versions.any(|version| version.sha256 == read || is_damaged(version))
    }
}
