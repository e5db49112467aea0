//! `nightferry key generate`: generates a key for encrypted stores. Reads no configuration and connects to nothing.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;
use nightferry_core::clock::Clock;
use nightferry_core::encryption::{KeyId, Keyring, MasterKey};

use super::App;
use crate::errors::{Exit, Failure};
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry key generate --file /etc/nightferry/s3.keys    a new file, or a new key before the existing \
ones
  nightferry key generate --id 2026-11                      only print it, for a secret manager

The first key of a file encrypts, all of them decrypt. Then set stores.NAME.encryption_key_file to the file \
and stores.NAME.encryption = true, and restart the API and all workers.

Keep a copy of the key in a safe place other than this machine: if you lose the key, you lose the files.";

const HEAD: &str = "# Keys of encrypted stores: the first one encrypts, all of them decrypt. If a key is \
    lost, its files are lost.\n";

/// Options of `key generate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct GenerateArgs {
    /// The id of the key, which is stored with every object [default: today's date]
    #[arg(long, value_name = "ID")]
    id: Option<KeyId>,
    /// Insert the key at the start of this key file, which is created if necessary
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

pub(super) fn run(app: &App, args: &GenerateArgs) -> Result<Exit, Failure> {
    let id = match &args.id {
        Some(id) => id.clone(),
        None => today()?,
    };
    let key = MasterKey::generate(id).map_err(|error| {
        Failure::new(Exit::Failed, "internal", "The system random number generator failed").because(error)
    })?;
    if let Some(file) = &args.file {
        prepend(file, &key)?;
    }
    let file = args.file.as_ref().map(|file| file.display().to_string());
    // The secret is only printed if it is not written to a file.
    let secret = args.file.is_none().then(|| key.expose_line());
    app.output.result(&document!(id: key.id().as_str(), file: &file, key: secret), |_| match &file {
        Some(file) => format!(
            "The key {} is now the first one in {file}. Keep a copy of it in a safe place: if you lose it, \
                you lose the files.",
            key.id()
        ),
        None => key.expose_line(),
    })?;
    Ok(Exit::Ok)
}

fn today() -> Result<KeyId, Failure> {
    let text = Clock::system().now().format("%Y-%m-%d").to_string();
    text.parse().map_err(|error| {
        Failure::new(Exit::Failed, "internal", "The date is not a valid key id").because(error)
    })
}

/// Writes a file with the new key and all existing ones next to the key file, and renames it into place: the existing
/// file remains until the new one is complete.
fn prepend(file: &Path, key: &MasterKey) -> Result<(), Failure> {
    let what = format!("write the key file {}", file.display());
    let failed = |error: std::io::Error| {
        Failure::new(Exit::Failed, "key_file", format!("Could not {what}")).because(error)
    };
    let old = match std::fs::read_to_string(file) {
        Ok(old) => old,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(failed(error)),
    };
    let rest = old.strip_prefix(HEAD).unwrap_or(&old);
    let text = format!("{HEAD}{}\n{rest}", key.expose_line());
    if let Err(wrong) = Keyring::parse(&text, true) {
        return Err(Failure::new(
            Exit::Conflict,
            "key_file",
            format!("Could not {what}: the file would be invalid"),
        )
        .because(wrong)
        .advise("choose another --id, or correct the file"));
    }
    let folder =
        file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let beside = folder.join(format!(".{}.new", file.file_name().unwrap_or_default().to_string_lossy()));
    let written = write_private(&beside, &text).and_then(|()| std::fs::rename(&beside, file));
    written.map_err(|error| {
        // The file contains a key. Whether it could be removed does not change the reported error.
        let _ = std::fs::remove_file(&beside);
        failed(error)
    })
}

/// A new file that only its owner can read, flushed to disk before this returns.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> MasterKey {
        MasterKey::generate(id.parse().unwrap()).unwrap()
    }

    #[test]
    fn a_new_key_is_inserted_before_the_existing_ones() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s3.keys");
        prepend(&path, &key("a")).unwrap();
        prepend(&path, &key("b")).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.matches(HEAD).count(), 1);
        let ring = Keyring::parse(&text, true).unwrap();
        assert_eq!(ring.ids().map(KeyId::as_str).collect::<Vec<_>>(), ["b", "a"]);
        assert!(!nightferry_core::config::is_exposed(&path), "only its owner may read it");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");

        let before = std::fs::read_to_string(&path).unwrap();
        assert_eq!(prepend(&path, &key("a")).unwrap_err().exit, Exit::Conflict);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), before);
    }
}
