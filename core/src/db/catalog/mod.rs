//! The catalogue as a whole, out of the database and into an empty one: users, folders, objects, files, versions and
//! replicas, each row as JSON with all its columns but those that mean nothing elsewhere. A column that a later migration
//! adds is carried without a word here.

mod fold;
mod found;
mod read;
mod restore;
mod settle;

use serde::{Deserialize, Serialize};

pub use fold::{Folded, fold};
pub use found::{
    Candidate, FoundObject, Seen, candidates, index_found, left_out, make_tables, note_found, note_seen,
};
use read::columns;
pub use read::{Reader, last_change, schema};
pub use restore::{finish, insert, insert_statement, take_over};
pub use settle::{Settled, settle};

/// Rows that are read or written at once.
pub const PAGE: usize = 1000;

/// A table that the catalogue consists of. In the order in which rows can be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// People.
    Users,
    /// Folders, parents first.
    Folders,
    /// Acknowledged objects, in the order of their keys.
    Objects,
    /// Files.
    Files,
    /// Their versions.
    FileVersions,
    /// Where the objects are, in the order of their keys.
    Replicas,
}

impl Table {
    /// Every one, in that order.
    pub const ALL: [Self; 6] =
        [Self::Users, Self::Folders, Self::Objects, Self::Files, Self::FileVersions, Self::Replicas];

    /// Its name in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Users => "users",
            Self::Folders => "folders",
            Self::Objects => "objects",
            Self::Files => "files",
            Self::FileVersions => "file_versions",
            Self::Replicas => "replicas",
        }
    }

    /// Columns that mean nothing in another database: what is under way, and for whom.
    const fn left_out(self) -> &'static [&'static str] {
        match self {
            Self::Users | Self::Folders | Self::Files | Self::FileVersions => &[],
            Self::Objects => &["upload_id", "upload_expires_at"],
            Self::Replicas => &[
                "run_id",
                "lease_token",
                "lease_until",
                "lease_worker",
                "upload_id",
                "part_size",
                "attempts",
                "abandoned",
                "object_size",
                "evict_reason",
            ],
        }
    }
}
