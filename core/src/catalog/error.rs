//! Why a snapshot is not believed, and why a catalogue is not rebuilt.

use crate::error::Error;
use crate::store::StoreError;

/// Why a snapshot must not be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was signed with another key.
    #[error("it was signed with the key {theirs}, and the configured one is {ours}")]
    ForeignKey {
        /// Id of the key that signed it.
        theirs: String,
        /// Id of the configured key.
        ours: String,
    },
    /// Its bytes are not those that were signed.
    #[error("its signature does not fit its content: it was changed, or damaged")]
    BadSignature,
    /// It ends before its end.
    #[error("it ends early: it was cut, or never finished")]
    Truncated,
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Damaged(String),
    /// It says of itself something that is not so.
    #[error("it contradicts itself: {0}")]
    Contradiction(String),
    /// Its form is not known to this version of the program.
    #[error("its format is version {0}, and this program reads version 1")]
    UnknownVersion(u64),
    /// It was taken from a newer schema.
    #[error("it has columns that this program does not know: {0}")]
    NewerSchema(String),
}

/// Why nothing was done, or not all.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The snapshot is not to be believed.
    #[error("{key}: {why}")]
    Refused {
        /// Key of the snapshot.
        key: String,
        /// Why.
        why: Refusal,
    },
    /// There is no snapshot of that key.
    #[error("there is no snapshot {0}")]
    NoSuchSnapshot(String),
    /// There is none at all.
    #[error("there is no snapshot in store {0}")]
    NoSnapshot(String),
    /// There are some, but none that can be believed.
    #[error("none of the {count} snapshots can be used; the newest: {newest}")]
    NoneValid {
        /// How many there are.
        count: usize,
        /// Why not the newest.
        newest: String,
    },
    /// The database to rebuild into is in use.
    #[error("the database is not empty: it holds {0}")]
    NotEmpty(String),
    /// Another process does the same.
    #[error("another process writes a snapshot at this moment")]
    Busy,
    /// Asked to stop.
    #[error("it was interrupted, and nothing was changed")]
    Interrupted,
    /// A dry run has come to its end; for the transaction only.
    #[error("only a trial")]
    Trial,
    /// Anything else.
    #[error("{0}")]
    Other(#[from] Error),
}

impl From<diesel::result::Error> for CatalogError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<StoreError> for CatalogError {
    fn from(error: StoreError) -> Self {
        Self::Other(error.into())
    }
}

/// For `map_err`: a task of our own that ended badly.
pub(super) fn broke_off(error: &tokio::task::JoinError) -> Error {
    Error::Internal(format!("reading or writing a snapshot broke off: {error}"))
}
