//! The reference for syncs: `rclone copy` between two S3 servers.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use nightferry_devservers::S3Server;
use tokio::process::Command;

use crate::relay::Relay;
use crate::subject::{Cost, cost_of};

/// Flags of a copy.
pub(crate) type Flags = &'static [&'static str];

/// Leaves out what belongs to the store and not to the files, such as the marker with its identity.
const ONLY_FILES: [&str; 2] = ["--exclude", "/_nightferry/**"];

/// No flags: rclone's defaults.
pub(crate) const DEFAULT: Flags = &[];
/// The fastest flags of rclone for many small files on this machine.
pub(crate) const SMALL: Flags = &["--transfers", "32", "--checkers", "32", "--s3-no-head"];
/// The fastest flags of rclone for few large files on this machine.
pub(crate) const LARGE: Flags = &["--s3-upload-cutoff", "5G", "--multi-thread-streams", "0"];
/// As many files at once as hide the round trips of a link.
pub(crate) const MANY: Flags = &["--transfers", "64", "--checkers", "64", "--s3-no-head"];
/// Also many parts of a large file at once, whatever memory that takes.
pub(crate) const MANY_PARTS: Flags = &[
    "--transfers",
    "64",
    "--checkers",
    "64",
    "--s3-no-head",
    "--s3-upload-cutoff",
    "32M",
    "--s3-chunk-size",
    "16M",
    "--s3-upload-concurrency",
    "8",
];

/// A bucket and how to reach it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Remote<'r> {
    server: &'r S3Server,
    endpoint: &'r str,
    bucket: &'r str,
}

impl<'r> Remote<'r> {
    /// A bucket of a server.
    pub(crate) fn of(server: &'r S3Server, bucket: &'r str) -> Self {
        Self { server, endpoint: &server.endpoint, bucket }
    }

    /// The same bucket, through a relay to its server.
    pub(crate) fn through(self, relay: Option<&'r Relay>) -> Self {
        Self { endpoint: relay.map_or(self.endpoint, |relay| relay.endpoint.as_str()), ..self }
    }
}

/// The command with these flags, for the report.
pub(crate) fn shown(flags: Flags) -> String {
    let mut words = vec!["rclone copy"];
    words.extend(flags);
    format!("`{}`", words.join(" "))
}

/// Copies a bucket. rclone neither creates nor checks the bucket, which saves requests.
pub(crate) async fn copy(folder: &Path, from: Remote<'_>, to: Remote<'_>, flags: Flags) -> Result<Cost> {
    let mut command = command(folder, from, to)?;
    command
        .args([
            "copy",
            &format!("from:{}", from.bucket),
            &format!("to:{}", to.bucket),
            "--s3-no-check-bucket",
        ])
        .args(ONLY_FILES)
        .args(flags);
    cost_of(command).await
}

/// Number of files and their bytes in a bucket.
pub(crate) async fn size(folder: &Path, server: &S3Server, bucket: &str) -> Result<(u64, u64)> {
    let remote = Remote::of(server, bucket);
    let mut command = command(folder, remote, remote)?;
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

fn command(folder: &Path, from: Remote<'_>, to: Remote<'_>) -> Result<Command> {
    let mut command = Command::new(program()?);
    command
        .arg("--config")
        .arg(folder.join("no-rclone.conf"))
        .env_clear()
        .env("HOME", folder)
        .kill_on_drop(true);
    for (name, remote) in [("FROM", from), ("TO", to)] {
        for (key, value) in [
            ("TYPE", "s3"),
            ("PROVIDER", "Other"),
            ("ENDPOINT", remote.endpoint),
            ("ACCESS_KEY_ID", &remote.server.access_key),
            ("SECRET_ACCESS_KEY", &remote.server.secret_key),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_shown_with_its_flags() {
        assert_eq!(shown(DEFAULT), "`rclone copy`");
        assert_eq!(shown(LARGE), "`rclone copy --s3-upload-cutoff 5G --multi-thread-streams 0`");
    }
}
