//! Command-line options.

use clap::{Parser, ValueEnum};
use nightferry_devservers::S3Software;

/// Compares Nightferry with bare stores and rclone, on the same servers, and prints ratios.
#[derive(Debug, Clone, Parser)]
#[command(name = "nightferry-bench", version)]
pub(crate) struct Args {
    /// Run only these parts of the benchmark
    #[arg(long, value_delimiter = ',', value_name = "PART,…")]
    pub(crate) only: Vec<Section>,
    /// Number of measurements per side; the default depends on the part
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=50))]
    pub(crate) repeat: Option<u32>,
    /// Factor for sizes and counts: 0.1 for a quick test, whose ratios are not meaningful
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    pub(crate) scale: f64,
    /// Number of files of the larger catalogue of the part scale
    #[arg(long, default_value_t = 10_000_000, value_name = "N",
        value_parser = clap::value_parser!(u32).range(200_000..=100_000_000))]
    pub(crate) files: u32,
    /// Software of both S3 servers
    #[arg(long, default_value = "seaweedfs", value_name = "SERVER")]
    pub(crate) s3_server: Server,
    /// Fail if a goal is missed
    #[arg(long)]
    pub(crate) strict: bool,
    /// Maximum number of seconds to wait before each measurement until other programs leave the processors idle
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub(crate) quiet_within: u64,
    /// Settings of API and worker that differ from the defaults, such as tiering.concurrency=32
    #[arg(long, value_name = "KEY=VALUE", value_parser = setting)]
    pub(crate) set: Vec<(String, String)>,
}

/// The software of an S3 server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// SeaweedFS
    Seaweedfs,
    /// MinIO, compiled with Go if it is missing
    Minio,
}

impl From<Server> for S3Software {
    fn from(server: Server) -> Self {
        match server {
            Server::Seaweedfs => Self::Seaweedfs,
            Server::Minio => Self::Minio,
        }
    }
}

/// A part of the benchmark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// One large file through the API against a presigned PUT
    Upload,
    /// One large file through the API against a presigned GET
    Download,
    /// Peak memory during concurrent uploads of large files and the following sync
    Memory,
    /// Many small files, store to store, against rclone
    SyncSmall,
    /// Few large files, store to store, against rclone
    SyncLarge,
    /// Claiming a batch from a long and from a short queue
    Claim,
    /// Planning new files among many files and among few
    Plan,
    /// Sign-in: whether its duration reveals that an account exists, and how long other requests wait during many
    /// sign-ins
    SignIn,
    /// A long run of small files: memory, rate, database work per file
    LongSmall,
    /// A long run of large files
    LongLarge,
    /// Evicting local copies against copying them, on the loopback address and over a link with latency
    Evict,
    /// Syncs over links with latency, against rclone, on SeaweedFS and MinIO (only if it is named: it takes long)
    Far,
    /// Operations of API and worker with millions of files against 100,000 (only if it is named: it takes about an hour)
    Scale,
}

impl Args {
    /// Whether a part was selected.
    pub(crate) fn wants(&self, section: Section) -> bool {
        self.only.is_empty() || self.only.contains(&section)
    }

    /// Whether a part was named.
    pub(crate) fn names(&self, section: Section) -> bool {
        self.only.contains(&section)
    }

    /// `count` scaled, at least one.
    pub(crate) fn scaled(&self, count: u32) -> u32 {
        let scaled = (f64::from(count) * self.scale).round().max(1.0);
        // Through text, because there is no fallible conversion from a float to an integer.
        format!("{scaled:.0}").parse().unwrap_or(count)
    }
}

fn scale(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(scale) if scale > 0.0 && scale <= 10.0 => Ok(scale),
        _ => Err("must be a number above 0 and at most 10".to_owned()),
    }
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be a setting such as tiering.concurrency=32".to_owned()),
    }
}
