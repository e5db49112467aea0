//! Errors of the embedded servers, with their fixes. One variant per cause that a user can act on; nothing here decides
//! how to react.

use std::io;
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
    /// A program ran and failed.
    #[error("{what} failed ({status}):\n{output}")]
    Command {
        /// The purpose of the program.
        what: String,
        /// Exit status as text.
        status: String,
        /// The end of its output.
        output: String,
    },
    /// A program that was named explicitly does not exist.
    #[error("{variable} is {}, but there is no {program} to run there: correct or unset {variable}", path.display())]
    NamedProgramMissing {
        /// The environment variable.
        variable: &'static str,
        /// Value.
        path: PathBuf,
        /// The expected program.
        program: &'static str,
    },
    /// No server is installed, and downloading one failed.
    #[error("cannot download {part}: {reason}\n{fix}")]
    Fetch {
        /// Name and version of the component.
        part: String,
        /// What is missing or what failed.
        reason: String,
        /// The fix.
        fix: String,
    },
    /// `MinIO` was selected and is not installed.
    #[error(
        "MinIO is not installed: install it with `go install github.com/minio/minio@latest`, set NIGHTFERRY_MINIO to \
         the binary, or use --s3-server seaweedfs"
    )]
    MinioMissing,
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
    /// The database files require another Postgres major version than the one that was found.
    #[error(
        "the database in {} was created by Postgres {major}, and no Postgres {major} was found: install \
         it, set NIGHTFERRY_POSTGRES_BIN to its bin folder, or use another --data-dir", path.display()
    )]
    OtherPostgres {
        /// The database folder.
        path: PathBuf,
        /// The major version that created it.
        major: u32,
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
    /// Two servers were given the same port.
    #[error("{first} and {second} are both {port}: choose different ports")]
    SamePort {
        /// The port.
        port: u16,
        /// One flag.
        first: &'static str,
        /// The other flag.
        second: &'static str,
    },
    /// No free port was found.
    #[error("found no free port on 127.0.0.1: close some programs and try again")]
    NoFreePort,
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
    /// A server cannot be stopped.
    #[error("{name} (pid {pid}) does not end, even after SIGKILL: end that process and try again")]
    Leftover {
        /// The server.
        name: String,
        /// Process id.
        pid: u32,
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
    /// A server exits repeatedly.
    #[error("{name} exited {times} times in a row, the last time with {status}; the end of {}:\n{tail}", log.display())]
    KeepsDying {
        /// The server.
        name: String,
        /// How often it was restarted.
        times: u32,
        /// Last exit status as text.
        status: String,
        /// Log file.
        log: PathBuf,
        /// The last lines of its log.
        tail: String,
    },
    /// A file in the data folder has invalid content.
    #[error("{} is damaged ({reason}): restore it from a backup, or use another --data-dir", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Converts a system error to an [`UpError::Io`] with the operation and the path.
pub(crate) fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UpError {
    let path = path.to_owned();
    move |source| UpError::Io { act, path, source }
}
