//! Errors of the embedded servers, with their fixes: one variant per cause that a caller reacts to. And the operations on
//! files that several servers need.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Why a server could not be found, downloaded, started, watched or stopped.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// A file or folder operation failed.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// The operation, as an infinitive: `create`, `read`.
        act: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot run {}: {source}", program.display())]
    Spawn {
        /// Path of the program.
        program: PathBuf,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
    /// The data folder was created by another server software.
    #[error(
        "the {store} store in {} was created by {recorded} and {wanted} cannot read it: use --s3-server \
         {recorded} or another --data-dir", path.display()
    )]
    OtherSoftware {
        /// `local` or `cloud`.
        store: &'static str,
        /// The data folder.
        path: PathBuf,
        /// The software that created it.
        recorded: &'static str,
        /// The requested software.
        wanted: &'static str,
    },
    /// A port is in use.
    #[error(
        "port {port} ({purpose}) is in use{holder}: stop that program or choose another port with {flag}"
    )]
    PortBusy {
        /// The port.
        port: u16,
        /// The purpose of the port.
        purpose: &'static str,
        /// ` by NAME (pid N)`, or empty if unknown.
        holder: String,
        /// The flag that changes it.
        flag: &'static str,
    },
    /// Another `nightferry up` uses the data folder.
    #[error(
        "another `nightferry up`{holder} is running on {}: stop it, or use another --data-dir and other ports",
        path.display()
    )]
    AlreadyRunning {
        /// The data folder.
        path: PathBuf,
        /// ` (pid N)`, or empty.
        holder: String,
    },
    /// A server ended before it was ready.
    #[error("{name} ended while starting ({status}); the end of {}:\n{tail}", log.display())]
    EndedEarly {
        /// The server.
        name: String,
        /// Exit status as text.
        status: String,
        /// Log file.
        log: PathBuf,
        /// The last lines of its log.
        tail: String,
    },
    /// A server is running but does not respond.
    #[error("{name} was not ready after {seconds} s; the end of {}:\n{tail}", log.display())]
    NotReady {
        /// The server.
        name: String,
        /// The time limit in seconds.
        seconds: u64,
        /// Log file.
        log: PathBuf,
        /// The last lines of its log.
        tail: String,
    },
    /// Any other cause, with its fix: nothing reacts to it in particular.
    #[error("{0}")]
    Other(String),
}

/// Converts a system error to an [`UpError::Io`] with the operation and the path.
pub(crate) fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UpError {
    let path = path.to_owned();
    move |source| UpError::Io { act, path, source }
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
