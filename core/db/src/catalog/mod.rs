//! The catalogue as a whole, read from the database and written to an empty one: users, folders, objects, files,
//! versions and replicas, each row as JSON with all columns except those without a meaning elsewhere. Columns added by
//! later migrations are included automatically.

mod align;
mod found;
mod import;
mod read;
mod restore;

use serde::{Deserialize, Serialize};

pub use align::{Aligned, align, record_adopted};
pub use found::{
    Candidate, Certainty, FoundObject, Lifetime, Seen, candidates, clear_observed, count_unrecovered,
    index_listed, make_tables, record_listed, record_observed, unknown,
};
pub use import::{ImportedRows, import_rows};
use read::columns;
pub use read::{Reader, last_change, schema};
pub use restore::{FirstAccount, finish, insert, insert_statement, put_back, set_aside, take_over};

/// Rows read or written at once.
pub const PAGE: usize = 1000;

/// A table of the catalogue. In the order in which rows can be restored.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, strum::IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Table {
    /// Users.
    Users,
    /// Folders, parents first.
    Folders,
    /// Stored objects, in key order.
    Objects,
    /// Files.
    Files,
    /// File versions.
    FileVersions,
    /// Replicas, in key order.
    Replicas,
}

impl Table {
    /// All tables, in that order.
    pub const ALL: [Self; 6] =
        [Self::Users, Self::Folders, Self::Objects, Self::Files, Self::FileVersions, Self::Replicas];

    /// Columns without a meaning in another database: work in progress.
    const fn excluded(self) -> &'static [&'static str] {
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
