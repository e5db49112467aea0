//! The data folder of `nightferry up`, its lock, and the settings stored in it. Only the holder of the lock writes to
//! it.

use std::fs::{self, DirBuilder, File};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use rand::Rng as _;
use serde::{Deserialize, Serialize};

use crate::error::{UpError, create_private, io_error};
use crate::s3::S3Kind;
use crate::seaweedfs::SeaweedPorts;

/// Facts that must not change between starts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Remembered {
    /// The location of the database files, if they could not be stored in the data folder.
    pub(crate) postgres_dir: Option<PathBuf>,
    pub(crate) postgres_port: Option<u16>,
    pub(crate) local: RememberedStore,
    pub(crate) cloud: RememberedStore,
}

/// Settings of one S3 server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct RememberedStore {
    /// The software that created its files.
    pub(crate) kind: Option<S3Kind>,
    pub(crate) seaweedfs_ports: Option<SeaweedPorts>,
}

/// The data folder.
#[derive(Debug, Clone)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    /// Opens the data folder and creates it if necessary. The path is made absolute.
    pub fn open(path: &Path) -> Result<Self, UpError> {
        let root = std::path::absolute(path).map_err(io_error("resolve", path))?;
        // Others may traverse the folder (a server under another account must reach its own folder) but not list it.
        let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
        DirBuilder::new().recursive(true).mode(mode).create(&root).map_err(io_error("create", &root))?;
        let root = fs::canonicalize(&root).map_err(io_error("resolve", &root))?;
        let data = Self { root };
        for folder in ["logs", "run"] {
            data.folder(folder)?;
        }
        Ok(data)
    }

    /// The absolute path.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder in it, created as private if it does not exist.
    pub fn folder(&self, name: &str) -> Result<PathBuf, UpError> {
        let path = self.root.join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(io_error("create", &path))?;
        Ok(path)
    }

    /// The log file of a server.
    pub fn log(&self, name: &str) -> PathBuf {
        self.root.join("logs").join(format!("{name}.log"))
    }

    /// The pid file of a server.
    pub fn pid_file(&self, name: &str) -> PathBuf {
        self.root.join("run").join(format!("{name}.pid"))
    }

    /// Locks the folder for this process until the file is dropped, or reports the holder of the lock.
    pub fn lock(&self) -> Result<File, UpError> {
        let path = self.root.join("up.lock");
        let mut file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(io_error("open", &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let mut pid = String::new();
                file.read_to_string(&mut pid).map_err(io_error("read", &path))?;
                let holder = if pid.is_empty() { String::new() } else { format!(" (pid {})", pid.trim()) };
                return Err(UpError::Conflict(format!(
                    "another `nightferry up`{holder} is running on {}: stop it, or use another --data-dir and other \
                     ports",
                    self.root.display()
                )));
            }
            Err(fs::TryLockError::Error(error)) => return Err(io_error("lock", &path)(error)),
        }
        let pid = format!("{}\n", std::process::id());
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(pid.as_bytes()))
            .map_err(io_error("write", &path))?;
        Ok(file)
    }

    /// A random secret stored in the folder under this name, generated at the first call: 32 hexadecimal digits.
    pub fn secret(&self, name: &str) -> Result<String, UpError> {
        let path = self.root.join(name);
        if path.exists() {
            let secret = fs::read_to_string(&path).map_err(io_error("read", &path))?;
            return Ok(secret.trim().to_owned());
        }
        let secret = format!("{:032x}", rand::rng().random::<u128>());
        self.replace_file(name, format!("{secret}\n").as_bytes())?;
        Ok(secret)
    }

    /// Writes a private file atomically.
    pub fn replace_file(&self, name: &str, content: &[u8]) -> Result<PathBuf, UpError> {
        let path = self.root.join(name);
        let new = self.root.join(format!("{name}.new"));
        let mut file = create_private(&new).map_err(io_error("create", &new))?;
        file.write_all(content).and_then(|()| file.sync_all()).map_err(io_error("write", &new))?;
        fs::rename(&new, &path).map_err(io_error("replace", &path))?;
        Ok(path)
    }

    pub(crate) fn recall(&self) -> Result<Remembered, UpError> {
        let path = self.root.join("servers.json");
        if !path.exists() {
            return Ok(Remembered::default());
        }
        let text = fs::read(&path).map_err(io_error("read", &path))?;
        serde_json::from_slice(&text).map_err(|error| damaged(&path, &error))
    }

    pub(crate) fn remember(&self, facts: &Remembered) -> Result<(), UpError> {
        let text = serde_json::to_vec_pretty(facts).map_err(|error| damaged(&self.root, &error))?;
        self.replace_file("servers.json", &text).map(|_| ())
    }
}

fn damaged(path: &Path, reason: &serde_json::Error) -> UpError {
    let path = path.display();
    UpError::Other(format!(
        "{path} is damaged ({reason}): restore it from a backup, or use another --data-dir"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_a_locked_folder_names_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(&folder.path().join("new/data")).unwrap();
        let lock = data.lock().unwrap();
        let error = data.lock().unwrap_err().to_string();
        assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        drop(lock);
        data.lock().unwrap();
    }

    #[test]
    fn a_secret_stays_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let secret = data.secret("postgres.password").unwrap();
        assert_eq!(secret.len(), 32);
        assert_eq!(data.secret("postgres.password").unwrap(), secret);
    }

    #[test]
    fn stored_settings_are_read_and_damage_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        assert_eq!(data.recall().unwrap(), Remembered::default());
        let facts = Remembered { postgres_port: Some(11_234), ..Remembered::default() };
        data.remember(&facts).unwrap();
        assert_eq!(data.recall().unwrap(), facts);
        fs::write(folder.path().join("servers.json"), "{").unwrap();
        assert!(data.recall().unwrap_err().to_string().contains("is damaged"));
    }
}
