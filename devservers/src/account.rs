//! The system account of a server: Postgres refuses to run as root, so root runs it under another account. Only root
//! switches accounts; other users run every server as themselves.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use crate::error::{UpError, io_error};

/// The conventional user id of the account `nobody`.
const NOBODY: u32 = 65_534;

/// The user and group id of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

impl Account {
    /// The account for Postgres: none (the current user) unless this process runs as root; then the `postgres` account
    /// of the system, or `nobody` if there is none.
    pub fn for_postgres() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        Some(named(&passwd, "postgres").unwrap_or(Self { uid: NOBODY, gid: NOBODY }))
    }

    /// Changes the owner of a file or folder to this account.
    pub fn own(self, path: &Path) -> Result<(), UpError> {
        chown(path, Some(self.uid), Some(self.gid)).map_err(io_error("hand over", path))
    }

    /// The first folder on the path to `path` (inclusive) that this account may not enter.
    ///
    /// Only existing folders are checked; new ones will be created accessible.
    pub fn barred_from(self, path: &Path) -> Option<PathBuf> {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let mut ancestors: Vec<&Path> = path.ancestors().collect();
        ancestors.reverse();
        ancestors.into_iter().find(|folder| !self.may_enter(folder)).map(Path::to_owned)
    }

    fn may_enter(self, folder: &Path) -> bool {
        let Ok(metadata) = fs::metadata(folder) else { return true };
        let bit = if metadata.uid() == self.uid {
            0o100
        } else if metadata.gid() == self.gid {
            0o010
        } else {
            0o001
        };
        !metadata.is_dir() || metadata.mode() & bit != 0
    }
}

/// Creates a temporary folder that the Postgres account can enter, even if this process runs as root. Its name begins
/// with `prefix`.
pub fn scratch_folder(prefix: &str) -> Result<tempfile::TempDir, UpError> {
    let mut parent = std::env::temp_dir();
    if Account::for_postgres().is_some_and(|account| account.barred_from(&parent).is_some()) {
        parent = PathBuf::from("/tmp");
    }
    let made = tempfile::Builder::new().prefix(prefix).tempdir_in(&parent);
    let folder = made.map_err(io_error("create a folder in", &parent))?;
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder.path(), open).map_err(io_error("open up", folder.path()))?;
    Ok(folder)
}

/// Finds an account by name in the text of `/etc/passwd` (passwd(5): `name:password:uid:gid:…`).
fn named(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next()? != name {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_an_account_by_its_whole_name() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\npostgresql:x:7:8::/:\npostgres:x:101:104:,,,:/var/lib:/bin/sh\n";
        assert_eq!(named(passwd, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(named(passwd, "nobody"), None);
    }

    #[test]
    fn names_the_folder_without_permission() {
        let root = tempfile::tempdir().unwrap();
        let private = root.path().join("private");
        fs::create_dir_all(private.join("below")).unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&private, fs::Permissions::from_mode(0o700)).unwrap();
        let stranger = Account { uid: 4_242, gid: 4_242 };
        assert_eq!(stranger.barred_from(&private.join("below/new")), Some(private));
        assert_eq!(stranger.barred_from(&root.path().join("new")), None);
    }
}
