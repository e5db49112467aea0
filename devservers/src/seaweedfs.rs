//! `SeaweedFS` as an S3 server: all of its services in one process, `weed mini`, on the loopback address.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::{UpError, create_private, io_error};
use crate::ports::{GRPC_OFFSET, free_port, free_port_with_grpc, port_is_free};
use crate::s3::{S3_ACCESS_KEY, S3_SECRET_KEY, S3Spec};
use crate::server::{Server, ServerSpec};

const READY_WITHIN: Duration = Duration::from_secs(30);
const START_ATTEMPTS: u32 = 3;
/// The soft memory limit of the Go runtime: without it the process keeps 1 to 1.9 GB after a large upload.
const MEMORY_GOAL: &str = "768MiB";

/// The ports that `SeaweedFS` needs in addition to the S3 port. Its master names its state after its own port, so the
/// ports are kept across starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeaweedPorts {
    /// Its gRPC port is 10,000 higher, as for the volume server, filer and admin.
    master: u16,
    volume: u16,
    filer: u16,
    /// It listens even if its pages are disabled.
    admin: u16,
    /// gRPC port of the S3 gateway; its own port is chosen by the user.
    s3_grpc: u16,
}

impl SeaweedPorts {
    /// Ports that are currently free.
    pub fn free() -> Result<Self, UpError> {
        let mut taken = Vec::new();
        let mut distinct = || loop {
            let port = free_port_with_grpc()?;
            if !taken.contains(&port) {
                taken.push(port);
                return Ok::<_, UpError>(port);
            }
        };
        let (master, volume, filer, admin) = (distinct()?, distinct()?, distinct()?, distinct()?);
        let mut s3_grpc = free_port()?;
        while taken.contains(&s3_grpc) || taken.iter().any(|port| port.saturating_add(GRPC_OFFSET) == s3_grpc)
        {
            s3_grpc = free_port()?;
        }
        Ok(Self { master, volume, filer, admin, s3_grpc })
    }

    /// These ports if all of them are free, otherwise new ones.
    pub(crate) fn still_free_or_new(self) -> Result<Self, UpError> {
        if self.all().into_iter().all(port_is_free) { Ok(self) } else { Self::free() }
    }

    fn with_grpc(self) -> [(&'static str, u16); 5] {
        [
            ("master", self.master.saturating_add(GRPC_OFFSET)),
            ("volume", self.volume.saturating_add(GRPC_OFFSET)),
            ("filer", self.filer.saturating_add(GRPC_OFFSET)),
            ("admin", self.admin.saturating_add(GRPC_OFFSET)),
            ("s3", self.s3_grpc),
        ]
    }

    pub(crate) fn all(self) -> [u16; 9] {
        let [master, volume, filer, admin, s3] = self.with_grpc().map(|(_, port)| port);
        [self.master, self.volume, self.filer, self.admin, master, volume, filer, admin, s3]
    }
}

/// Starts `weed mini` and waits until S3 responds. Its inner ports are not guaranteed until it has bound them, and it
/// may wait forever for one that another process took in the meantime: then it is restarted on other ports.
pub(crate) async fn start(mut spec: S3Spec<'_>) -> Result<Server, UpError> {
    write_identities(&spec)?;
    for _ in 1..START_ATTEMPTS {
        match start_once(&spec).await {
            Err(UpError::NotReady { .. } | UpError::EndedEarly { .. }) => spec.ports = SeaweedPorts::free()?,
            other => return other,
        }
    }
    start_once(&spec).await
}

async fn start_once(spec: &S3Spec<'_>) -> Result<Server, UpError> {
    let mut marker = OsString::from("-dir=");
    marker.push(spec.data);
    let mut config = OsString::from("-s3.config=");
    config.push(&spec.identities);
    let ports = spec.ports;
    let mut args: Vec<OsString> = vec!["-logtostderr=true".into(), "mini".into(), marker.clone(), config];
    let numbers = [
        ("master.port", ports.master),
        ("volume.port", ports.volume),
        ("filer.port", ports.filer),
        ("admin.port", ports.admin),
        ("s3.port", spec.s3_port),
        ("s3.port.grpc", ports.s3_grpc),
        ("s3.port.iceberg", 0),
        ("s3.port.lance", 0),
    ];
    args.extend(numbers.map(|(name, port)| format!("-{name}={port}").into()));
    let switches = [
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-admin.ui=false",
        "-webdav=false",
        "-s3.autoCreateBucket=false",
        "-master.telemetry=false",
    ];
    args.extend(switches.map(OsString::from));
    Server::start(ServerSpec {
        envs: vec![("GOMEMLIMIT", MEMORY_GOAL.to_owned())],
        leaves_behind: sockets(ports, spec.s3_port),
        ..spec.server(marker, args, READY_WITHIN)
    })
    .await
}

fn write_identities(spec: &S3Spec<'_>) -> Result<(), UpError> {
    let identities = json!({"identities": [{
        "name": "nightferry",
        "credentials": [{"accessKey": S3_ACCESS_KEY, "secretKey": S3_SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }]});
    create_private(&spec.identities)
        .and_then(|mut file| file.write_all(identities.to_string().as_bytes()))
        .map_err(io_error("write", &spec.identities))
}

/// The Unix sockets that `SeaweedFS` creates in `/tmp` and leaves behind.
fn sockets(ports: SeaweedPorts, s3_port: u16) -> Vec<PathBuf> {
    ports
        .with_grpc()
        .iter()
        .map(|(service, port)| format!("/tmp/seaweedfs-{service}-grpc-{port}.sock"))
        .chain([
            format!("/tmp/seaweedfs-filer-{}.sock", ports.filer),
            format!("/tmp/seaweedfs-s3-{s3_port}.sock"),
        ])
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_ports_are_all_different() {
        let ports = SeaweedPorts::free().unwrap();
        let mut all = ports.all().to_vec();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 9);
    }
}
