//! Errors of the embedded servers, with their fixes: one variant per cause that a caller reacts to. And the operations on
//! files that several servers need.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// Why a server could not be found, downloaded, started, watched or stopped.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// A port or the data folder is in use, or the data belongs to another server software.
    #[error("{0}")]
    Conflict(String),
    /// A server ended before it was ready.
    #[error("{0}")]
    EndedEarly(String),
    /// A server is running but does not respond.
    #[error("{0}")]
    NotReady(String),
    /// Any other cause: nothing reacts to it in particular.
    #[error("{0}")]
    Other(String),
}

/// Converts a system error to an [`UpError`] with the operation, such as `create`, and the path.
pub(crate) fn io_error(act: &str, path: &Path) -> impl FnOnce(io::Error) -> UpError {
    move |error| UpError::Other(format!("cannot {act} {}: {error}", path.display()))
}

/// Removes a folder with everything in it, if it exists.
pub(crate) fn remove_folder(path: &Path) -> Result<(), UpError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Creates or empties a file that only its owner can read.
pub(crate) fn create_private(path: &Path) -> io::Result<fs::File> {
    fs::File::options().create(true).truncate(true).write(true).mode(0o600).open(path)
}
