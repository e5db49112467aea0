//! The reference for syncs: `rclone copy` between two S3 servers.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nightferry_devservers::S3Server;
use tokio::process::Command;

use crate::subject::{Cost, cost_of};

/// Leaves out what belongs to the store and not to the files, such as the marker with its identity.
const ONLY_FILES: [&str; 2] = ["--exclude", "/_nightferry/**"];

/// The fastest flags of rclone for many small files on this machine.
pub(crate) const SMALL: &[&str] = &["--transfers", "32", "--checkers", "32", "--s3-no-head"];
/// The fastest flags of rclone for few large files on this machine.
pub(crate) const LARGE: &[&str] = &["--s3-upload-cutoff", "5G", "--multi-thread-streams", "0"];

/// Copies a bucket. rclone neither creates nor checks the bucket, which saves requests.
pub(crate) async fn copy(
    folder: &Path,
    from: (&S3Server, &str),
    to: (&S3Server, &str),
    flags: &[&str],
) -> Result<Cost> {
    let mut command = command(folder, from.0, to.0)?;
    command
        .args(["copy", &format!("from:{}", from.1), &format!("to:{}", to.1), "--s3-no-check-bucket"])
        .args(ONLY_FILES)
        .args(flags);
    cost_of(command).await
}

/// Number of files and their bytes in a bucket.
pub(crate) async fn size(folder: &Path, server: &S3Server, bucket: &str) -> Result<(u64, u64)> {
    let mut command = command(folder, server, server)?;
    command.args(["size", "--json", &format!("to:{bucket}")]).args(ONLY_FILES);
    let output = command.output().await?;
    ensure!(output.status.success(), "rclone size failed: {}", String::from_utf8_lossy(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let number = |field: &str| answer.get(field).and_then(serde_json::Value::as_u64).context("rclone size");
    Ok((number("count")?, number("bytes")?))
}

/// The version of rclone.
pub(crate) async fn version() -> Result<String> {
    let output = Command::new(program()?).arg("version").output().await?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned())
}

fn command(folder: &Path, from: &S3Server, to: &S3Server) -> Result<Command> {
    let mut command = Command::new(program()?);
    command
        .arg("--config")
        .arg(folder.join("no-rclone.conf"))
        .env_clear()
        .env("HOME", folder)
        .kill_on_drop(true);
    for (name, server) in [("FROM", from), ("TO", to)] {
        for (key, value) in [
            ("TYPE", "s3"),
            ("PROVIDER", "Other"),
            ("ENDPOINT", &server.endpoint),
            ("ACCESS_KEY_ID", &server.access_key),
            ("SECRET_ACCESS_KEY", &server.secret_key),
        ] {
            command.env(format!("RCLONE_CONFIG_{name}_{key}"), value);
        }
    }
    Ok(command)
}

fn program() -> Result<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders)
        .map(|folder| folder.join("rclone"))
        .find(|program| program.is_file())
        .context("rclone is not on the PATH: start the benchmark by `make bench`, which installs it")
}
