//! Finds the servers on this machine: first where the environment points, then in the usual locations. Downloads
//! nothing and runs only `postgres --version`.

use std::env;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::account::Account;
use crate::error::UpError;
use crate::fetch::{POSTGRES_WHEEL, PartsCache};
use crate::report::Reporter;

/// The oldest supported Postgres version.
const MIN_POSTGRES_VERSION: u32 = 15;

/// A program that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The program.
    pub program: PathBuf,
}

/// A Postgres installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresBin {
    /// The folder with `postgres` and `initdb`.
    pub folder: PathBuf,
    /// Major version.
    pub major: u32,
}

impl PostgresBin {
    /// The server program.
    pub fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    /// The program that creates a database folder.
    pub fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }

    /// An installed Postgres of the `required` major version, otherwise the one that can be downloaded; `None` if the
    /// download does not run on this system.
    pub async fn find_or_fetch(
        required: Option<u32>,
        account: Option<Account>,
        cache: &PartsCache,
        reporter: &dyn Reporter,
    ) -> Result<Option<Self>, UpError> {
        match find_postgres(required, account)? {
            Some(found) => Ok(Some(found)),
            None => Ok(Self::at(&cache.get_or_fetch(&POSTGRES_WHEEL, account, reporter).await?)),
        }
    }

    /// Reads the version of the Postgres in a folder; `None` if there is none that runs.
    pub fn at(folder: &Path) -> Option<Self> {
        let folder = folder.to_owned();
        if !is_program(&folder.join("postgres")) || !is_program(&folder.join("initdb")) {
            return None;
        }
        let answer = Command::new(folder.join("postgres")).arg("--version").output().ok()?;
        let major = major_version(&String::from_utf8_lossy(&answer.stdout))?;
        Some(Self { folder, major })
    }
}

/// Finds Postgres: `NIGHTFERRY_POSTGRES_BIN` (a bin folder), then `postgres` on the path, then Debian's folders, newest
/// first. Accepts only the `required` major version, and only one that `account` may run.
pub fn find_postgres(
    required: Option<u32>,
    account: Option<Account>,
) -> Result<Option<PostgresBin>, UpError> {
    const VARIABLE: &str = "NIGHTFERRY_POSTGRES_BIN";
    if let Some(path) = named_by(VARIABLE) {
        return PostgresBin::at(&path).map(Some).ok_or_else(|| missing(VARIABLE, &path, "postgres"));
    }
    let on_path =
        on_path("postgres").and_then(|program| program.canonicalize().ok()?.parent().map(Path::to_owned));
    let mut installed: Vec<PostgresBin> = on_path
        .into_iter()
        .chain(subfolders("/usr/lib/postgresql", "bin"))
        .chain(
            subfolders("/opt/homebrew/opt", "bin")
                .filter(|folder| folder.to_string_lossy().contains("postgresql@")),
        )
        .filter(|folder| account.is_none_or(|account| account.barred_from(folder).is_none()))
        .filter_map(|folder| PostgresBin::at(&folder))
        .filter(|found| required.map_or(found.major >= MIN_POSTGRES_VERSION, |major| found.major == major))
        .collect();
    installed.sort_by_key(|found| std::cmp::Reverse(found.major));
    Ok(installed.into_iter().next())
}

/// Finds `SeaweedFS`: `NIGHTFERRY_WEED`, then `weed` on the path.
pub fn find_seaweedfs() -> Result<Option<Found>, UpError> {
    named_program("NIGHTFERRY_WEED", "weed").map(|named| named.or_else(|| found(on_path("weed"))))
}

/// Finds `MinIO`: `NIGHTFERRY_MINIO`, then `minio` on the path, then where `go install` puts it.
pub fn find_minio() -> Result<Option<Found>, UpError> {
    let of_go = || {
        [("GOBIN", "minio"), ("GOPATH", "bin/minio"), ("HOME", "go/bin/minio")]
            .iter()
            .filter_map(|(variable, program)| Some(PathBuf::from(env::var_os(variable)?).join(program)))
            .find(|program| is_program(program))
    };
    let named = named_program("NIGHTFERRY_MINIO", "minio")?;
    Ok(named.or_else(|| found(on_path("minio").or_else(of_go))))
}

fn found(program: Option<PathBuf>) -> Option<Found> {
    program.map(|program| Found { program })
}

/// The path in this environment variable, unless it is empty.
pub(crate) fn named_by(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn named_program(variable: &'static str, program: &'static str) -> Result<Option<Found>, UpError> {
    match named_by(variable) {
        None => Ok(None),
        Some(path) if is_program(&path) => Ok(found(Some(path))),
        Some(path) => Err(missing(variable, &path, program)),
    }
}

/// A program that was named explicitly does not exist.
fn missing(variable: &str, path: &Path, program: &str) -> UpError {
    let path = path.display();
    UpError::Other(format!(
        "{variable} is {path}, but there is no {program} to run there: correct or unset {variable}"
    ))
}

fn on_path(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|program| is_program(program))
}

/// `parent/*/child`, as far as readable.
fn subfolders(parent: &str, child: &'static str) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(parent).into_iter().flatten().flatten().map(move |entry| entry.path().join(child))
}

pub(crate) fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The major version in `postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)`.
fn major_version(answer: &str) -> Option<u32> {
    let version = answer.split_once("(PostgreSQL)")?.1.trim_start();
    version.split(|character: char| !character.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_major_version_of_releases_and_of_previews() {
        assert_eq!(major_version("postgres (PostgreSQL) 15.13 (Debian 15.13-0+deb12u1)\n"), Some(15));
        assert_eq!(major_version("postgres (PostgreSQL) 19devel\n"), Some(19));
        assert_eq!(major_version("something else 1.2"), None);
    }

    #[test]
    fn a_folder_without_postgres_is_not_an_installation() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(PostgresBin::at(folder.path()), None);
    }
}
