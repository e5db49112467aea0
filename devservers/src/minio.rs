//! `MinIO` as an S3 server on the loopback address.

use std::time::Duration;

use crate::error::UpError;
use crate::ports::{free_port, loopback};
use crate::s3::{S3_ACCESS_KEY, S3_SECRET_KEY, S3Spec};
use crate::server::{Ready, Server, ServerSpec, StopSignal};

const READY_WITHIN: Duration = Duration::from_secs(60);

/// Starts `minio server` and waits until S3 responds.
pub(crate) async fn start(spec: S3Spec<'_>) -> Result<Server, UpError> {
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
            ("MINIO_ROOT_USER", S3_ACCESS_KEY.to_owned()),
            ("MINIO_ROOT_PASSWORD", S3_SECRET_KEY.to_owned()),
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
