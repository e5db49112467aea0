//! `nightferry encryption-key`: the keys of encrypted stores. Generating one reads no configuration and connects to nothing.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use nightferry_api_types::key::EncryptionKey;
use nightferry_core::clock::Clock;
use nightferry_core::context::Context;
use nightferry_core::db::{replicas, unsigned};
use nightferry_core::encryption::{KeyId, Keyring, MasterKey};
use nightferry_core::services::Services;

use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::table;
use crate::output::{TextStyle, document};

#[derive(Debug, Subcommand)]
pub(crate) enum EncryptionKeyCommand {
    /// Generate a key and insert it into a key file, or print it
    Generate(GenerateArgs),
    /// Show the keys of each store, and how many copies need them
    #[command(after_help = LIST_EXAMPLES)]
    List,
}

pub(super) async fn run(app: &App, command: &EncryptionKeyCommand) -> Result<Exit, Failure> {
    match command {
        EncryptionKeyCommand::Generate(args) => generate(app, args),
        EncryptionKeyCommand::List => {
            app.in_session(async |services: &Services| list(app, &services.context).await).await
        }
    }
}

const GENERATE_EXAMPLES: &str = "\
Examples:
  nightferry encryption-key generate --file /etc/nightferry/s3.keys    a new file, or a new key before the existing \
ones
  nightferry encryption-key generate --id 2026-11                      only print it, for a secret manager

The first key of a file encrypts, all of them decrypt. Then set stores.NAME.encryption_key_file to the file \
and stores.NAME.encryption = true, and restart the API and all workers.

Keep a copy of the key in a safe place other than this machine: if you lose the key, you lose the files.";

const HEAD: &str = "# Keys of encrypted stores: the first one encrypts, all of them decrypt. If a key is \
    lost, its files are lost.\n";

#[derive(Debug, Args)]
#[command(after_help = GENERATE_EXAMPLES)]
pub(crate) struct GenerateArgs {
    /// The id of the key, which is stored with every object [default: today's date]
    #[arg(long, value_name = "ID")]
    id: Option<KeyId>,
    /// Insert the key at the start of this key file, which is created if necessary
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

fn generate(app: &App, args: &GenerateArgs) -> Result<Exit, Failure> {
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
    })
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
        let what = format!("Could not {what}: the file would be invalid");
        return Err(Failure::new(Exit::Conflict, "key_file", what)
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
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

const LIST_EXAMPLES: &str = "\
Examples:
  nightferry encryption-key list
  nightferry --json encryption-key list | jq '.keys[] | select(.state == \"missing\")'

A key that no copy needs can be removed from the configuration. Copies whose key is missing are unreadable \
until it is put back.

Exit code 7 if copies need a key that is not configured.";

async fn list(app: &App, context: &Context) -> Result<Exit, Failure> {
    let used = async {
        let mut conn = context.db.conn().await?;
        replicas::keys_in_use(&mut conn).await
    };
    let used = used.await.map_err(cannot("count the copies of each key"))?;
    let mut keys = Vec::new();
    for store in context.stores.all() {
        let active = store.keys().and_then(Keyring::active).map(MasterKey::id);
        for id in store.keys().into_iter().flat_map(Keyring::ids) {
            let state = if active == Some(id) { "active" } else { "old" };
            keys.push(EncryptionKey {
                store: store.name().to_string(),
                id: id.to_string(),
                state,
                copies: 0,
            });
        }
    }
    for used in used {
        let copies = unsigned(used.copies);
        match keys.iter_mut().find(|key| key.store == used.store && key.id == used.key_id) {
            Some(key) => key.copies = copies,
            None => keys.push(EncryptionKey { store: used.store, id: used.key_id, state: "missing", copies }),
        }
    }
    let missing = keys.iter().any(|key| key.state == "missing");
    app.output.result(&document!(keys: &keys), |look| text(&keys, look))?;
    Ok(if missing { Exit::Findings } else { Exit::Ok })
}

fn text(keys: &[EncryptionKey], look: TextStyle) -> String {
    if keys.is_empty() {
        return "No store has keys, and no copy needs one: encryption is not used.".to_owned();
    }
    table("STORE | KEY | STATE | > COPIES", keys, |key| {
        [key.store.clone(), key.id.clone(), look.state(key.state), key.copies.to_string()]
    })
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
