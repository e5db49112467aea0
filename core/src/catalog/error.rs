//! Why a snapshot is rejected, and why a catalogue is not rebuilt.

use crate::error::Error;
use crate::store::StoreError;

/// Why a snapshot is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The snapshot was signed with another key.
    #[error("it was signed with the key {theirs}, and the configured one is {ours}")]
    ForeignKey {
        /// Id of the key that signed it.
        theirs: String,
        /// Id of the configured key.
        ours: String,
    },
    /// Its content is not authentic.
    #[error("its signature does not match its content: it was modified or damaged")]
    BadSignature,
    /// The snapshot is truncated.
    #[error("it is truncated, or was never finished")]
    Truncated,
    /// The snapshot is malformed.
    #[error("it is malformed: {0}")]
    Damaged(String),
    /// Content contradicts its header or footer.
    #[error("it is inconsistent: {0}")]
    Contradiction(String),
    /// Its format is unknown to this version of the program.
    #[error("its format has version {0}, but this program supports version 1")]
    UnknownVersion(u64),
    /// The snapshot was taken with a newer schema.
    #[error("it has columns unknown to this program: {0}")]
    NewerSchema(String),
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The snapshot was rejected.
    #[error("{key}: {why}")]
    Refused {
        /// Key of the snapshot.
        key: String,
        /// The reason.
        why: Refusal,
    },
    /// There is no snapshot with this key.
    #[error("there is no snapshot {0}")]
    NoSuchSnapshot(String),
    /// There is no snapshot.
    #[error("there is no snapshot in store {0}")]
    NoSnapshot(String),
    /// There are snapshots, but no valid one.
    #[error("none of the {count} snapshots is valid; the newest: {newest}")]
    NoneValid {
        /// The number of snapshots.
        count: usize,
        /// Why the newest one was rejected.
        newest: String,
    },
    /// The target database is not empty.
    #[error("the database is not empty: it contains {0}")]
    NotEmpty(String),
    /// Another process is writing a snapshot.
    #[error("another process is writing a snapshot")]
    Busy,
    /// Another process is adopting objects.
    #[error("another process is adopting objects")]
    Adopting,
    /// The pass was interrupted.
    #[error("it was interrupted, and nothing was changed")]
    Interrupted,
    /// A dry run has finished; only used to roll back the transaction.
    #[error("dry run")]
    Trial,
    /// Any other error.
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

/// For `map_err`: one of our tasks failed.
pub(super) fn broke_off(error: &tokio::task::JoinError) -> Error {
    Error::Internal(format!("reading or writing a snapshot was interrupted: {error}"))
}
