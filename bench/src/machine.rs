//! The hardware and software of the measurement.

use std::fs;
use std::process::Command;

use nightferry_devservers::{
    Account, POSTGRES_WHEEL, SEAWEEDFS_WHEEL, find_minio, find_postgres, find_seaweedfs,
};

use crate::args::Server;
use crate::quiet::cores;
use crate::rclone;

/// Facts for the report, one per line.
pub(crate) async fn facts(s3_server: Server) -> Vec<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory_kib: u32 = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok())
        .unwrap_or(0);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let postgres = find_postgres(None, Account::for_postgres()).ok().flatten();
    let postgres =
        postgres.map_or(POSTGRES_WHEEL.name.to_owned(), |found| first_line(found.postgres(), "--version"));
    let stores = s3_software(s3_server);
    vec![
        format!(
            "machine: {} processors ({model}), {:.0} GiB of memory, Linux {}, shared by client, API, worker, Postgres and \
             both S3 servers, all on the loopback address",
            cores(),
            f64::from(memory_kib) / 1024.0 / 1024.0,
            kernel.trim(),
        ),
        format!(
            "Nightferry {}, {postgres}, both stores {stores}, {}, {}",
            env!("CARGO_PKG_VERSION"),
            rclone::version().await.unwrap_or_default(),
            first_line("curl", "--version").split(" (").next().unwrap_or_default(),
        ),
        format!("measured on {}", chrono::Utc::now().format("%Y-%m-%d")),
    ]
}

/// The version of an S3 server.
pub(crate) fn s3_software(s3_server: Server) -> String {
    match s3_server {
        Server::Minio => {
            let minio = find_minio().ok().flatten();
            minio.map_or("MinIO".to_owned(), |found| first_line(found.program, "--version"))
        }
        Server::Seaweedfs => {
            let weed = find_seaweedfs().ok().flatten();
            weed.map_or(SEAWEEDFS_WHEEL.name.to_owned(), |found| first_line(found.program, "version"))
        }
    }
}

fn first_line(program: impl AsRef<std::ffi::OsStr>, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().unwrap_or_default().to_owned()
}
