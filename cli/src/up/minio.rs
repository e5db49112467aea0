//! `MinIO` as an S3 server on the loopback address.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::error::UpError;
use super::ports::{free_port, loopback};
use super::server::{Ready, Server, ServerSpec, StopSignal};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// How to start one `MinIO`.
#[derive(Debug, Clone)]
pub struct MinioSpec<'a> {
    /// What to call it.
    pub name: &'a str,
    /// The `minio` program.
    pub program: &'a Path,
    /// Its data folder; it must exist.
    pub data: &'a Path,
    /// Port of the S3 API.
    pub s3_port: u16,
    /// Access key of its root user, at least 3 characters.
    pub access_key: &'a str,
    /// Secret key of its root user, at least 8 characters.
    pub secret_key: &'a str,
    /// Where its output goes.
    pub log: PathBuf,
    /// Where its process id is noted.
    pub pid_file: PathBuf,
}

/// Starts `minio server` and waits until S3 answers.
pub async fn start_minio(spec: MinioSpec<'_>) -> Result<Server, UpError> {
    let address = loopback(spec.s3_port).to_string();
    let console = loopback(free_port()?).to_string();
    Server::start(ServerSpec {
        name: spec.name.to_owned(),
        program: spec.program.to_owned(),
        args: vec![
            "server".into(),
            "--quiet".into(),
            "--address".into(),
            address.into(),
            "--console-address".into(),
            console.into(),
            spec.data.into(),
        ],
        envs: vec![
            ("MINIO_ROOT_USER", spec.access_key.to_owned()),
            ("MINIO_ROOT_PASSWORD", spec.secret_key.to_owned()),
            ("MINIO_BROWSER", "off".to_owned()),
            ("MINIO_UPDATE", "off".to_owned()),
            ("MINIO_CALLHOME_ENABLE", "off".to_owned()),
        ],
        work_dir: spec.data.to_owned(),
        account: None,
        stop_signal: StopSignal::Terminate,
        log: spec.log,
        pid_file: spec.pid_file,
        marker: spec.data.into(),
        ready: Ready::Http(loopback(spec.s3_port)),
        ready_within: READY_WITHIN,
        leaves_behind: Vec::new(),
    })
    .await
}
