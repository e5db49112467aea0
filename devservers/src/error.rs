//! What can go wrong around the embedded servers, in words that name the fix.
//! One variant per cause that a person can act on; nothing here decides what to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Why a server could not be found, fetched, started, watched or stopped.
#[derive(Debug, thiserror::Error)]
pub enum UpError {
    /// A file or folder operation failed.
    #[error("cannot {act} {}: {source}", path.display())]
    Io {
        /// What was tried, as an infinitive: `create`, `read`.
        act: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A program could not be run at all.
    #[error("cannot run {}: {source}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// A program ran and failed.
    #[error("{what} failed ({status}):\n{output}")]
    Command {
        /// What the program was to do.
        what: String,
        /// Its exit status in words.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// A program that was named explicitly is not there.
    #[error("{variable} is {}, but there is no {program} to run there: correct or unset {variable}", path.display())]
    NamedProgramMissing {
        /// The environment variable.
        variable: &'static str,
        /// Its value.
        path: PathBuf,
        /// The program that was looked for.
        program: &'static str,
    },
    /// Neither an installed server nor a way to fetch one.
    #[error("cannot fetch {part}: {reason}\n{fix}")]
    Fetch {
        /// Name and version of the part.
        part: String,
        /// What is missing or what failed.
        reason: String,
        /// What the person can do.
        fix: String,
    },
    /// `MinIO` was asked for by name and is not installed.
    #[error(
        "MinIO is not installed: install it with `go install github.com/minio/minio@latest`, set NIGHTFERRY_MINIO to \
         the binary, or use --s3-server seaweedfs"
    )]
    MinioMissing,
    /// The data folder was made by another server software.
    #[error(
        "the {store} store in {} was made by {recorded} and {wanted} cannot read it: use --s3-server {recorded} or \
         another --data-dir", path.display()
    )]
    OtherSoftware {
        /// `local` or `cloud`.
        store: &'static str,
        /// The data folder.
        path: PathBuf,
        /// What made it.
        recorded: &'static str,
        /// What was asked for.
        wanted: &'static str,
    },
    /// The database files need another Postgres major version than those that were found.
    #[error(
        "the database in {} was made by Postgres {major}, and no Postgres {major} was found: install it, set \
         NIGHTFERRY_POSTGRES_BIN to its bin folder, or use another --data-dir", path.display()
    )]
    OtherPostgres {
        /// The database folder.
        path: PathBuf,
        /// The major version that made it.
        major: u32,
    },
    /// A port is taken.
    #[error(
        "port {port} ({purpose}) is in use{holder}: stop that program or choose another port with {flag}"
    )]
    PortBusy {
        /// The port.
        port: u16,
        /// What it is for.
        purpose: &'static str,
        /// ` by NAME (pid N)`, or empty where it cannot be found out.
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
    #[error("{name} (pid {pid}) does not end, not even when killed: end that process and try again")]
    Leftover {
        /// The server.
        name: String,
        /// Its process id.
        pid: u32,
    },
    /// A server ended before it was ready.
    #[error("{name} ended while starting ({status}); the end of {}:\n{tail}", log.display())]
    EndedEarly {
        /// The server.
        name: String,
        /// Its exit status in words.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A server runs but does not answer.
    #[error("{name} was not ready after {seconds} s; the end of {}:\n{tail}", log.display())]
    NotReady {
        /// The server.
        name: String,
        /// How long it was given, in seconds.
        seconds: u64,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A server keeps dying.
    #[error("{name} died {times} times in a row, the last time with {status}; the end of {}:\n{tail}", log.display())]
    KeepsDying {
        /// The server.
        name: String,
        /// How often it was started again.
        times: u32,
        /// Its last exit status in words.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The log's last lines.
        tail: String,
    },
    /// A file of the data folder holds something that cannot be understood.
    #[error("{} is damaged ({reason}): put it back from a backup, or use another --data-dir", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Turns a system error into an [`UpError::Io`] that names the act and the path.
pub(crate) fn io_error(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UpError {
    let path = path.to_owned();
    move |source| UpError::Io { act, path, source }
}
