//! Embeds the migrations in the binary, as a list of scripts in `scripts.rs`. A new migration triggers a rebuild.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

const FOLDER: &str = "../../migrations";

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed={FOLDER}");
    let folder = fs::canonicalize(FOLDER)?;
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    let mut list = "&[\n".to_owned();
    for name in names {
        let migration = folder.join(&name);
        let path = |script: &str| migration.join(script).display().to_string();
        let (up, down) = (path("up.sql"), path("down.sql"));
        // Like the command line of diesel, which reads this file too.
        let metadata = fs::read_to_string(migration.join("metadata.toml")).unwrap_or_default();
        let in_transaction = !metadata.lines().any(|line| line.trim() == "run_in_transaction = false");
        // Writing to a String cannot fail.
        let _ = writeln!(
            list,
            "    Script {{ name: {name:?}, up: include_str!({up:?}), down: include_str!({down:?}), \
             in_transaction: {in_transaction} }},"
        );
    }
    list.push_str("]\n");
    let out = env::var_os("OUT_DIR").ok_or_else(|| io::Error::other("cargo sets OUT_DIR"))?;
    fs::write(Path::new(&out).join("scripts.rs"), list)
}
