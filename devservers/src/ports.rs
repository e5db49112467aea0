//! Ports on the loopback address: finding free ones, and naming the process on a busy one. A free port is not
//! guaranteed until a server has bound it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use rand::Rng as _;

use crate::error::UpError;
use crate::leftovers::process_name;

/// Servers get ports below the ephemeral range (Linux: from 32768), so that neither they nor their gRPC ports are taken
/// by an outgoing connection.
const MIN_PORT: u16 = 11_000;
const MAX_PORT: u16 = 22_000;
/// `SeaweedFS` listens for gRPC at each port plus this offset.
pub(crate) const GRPC_OFFSET: u16 = 10_000;
const MAX_ATTEMPTS: u32 = 1_000;

pub(crate) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

pub(crate) fn port_is_free(port: u16) -> bool {
    TcpListener::bind(loopback(port)).is_ok()
}

/// A free port of the loopback address.
pub fn free_port() -> Result<u16, UpError> {
    search(port_is_free)
}

/// A free port whose gRPC port, 10,000 above it, is also free, for `SeaweedFS`.
pub(crate) fn free_port_with_grpc() -> Result<u16, UpError> {
    search(|port| port_is_free(port) && port_is_free(port.saturating_add(GRPC_OFFSET)))
}

fn search(free: impl Fn(u16) -> bool) -> Result<u16, UpError> {
    let mut random = rand::rng();
    let mut ports = (0..MAX_ATTEMPTS).map(|_| random.random_range(MIN_PORT..MAX_PORT));
    let none = "found no free port on 127.0.0.1: close some programs and try again";
    ports.find(|port| free(*port)).ok_or_else(|| UpError::Other(none.to_owned()))
}

/// Returns an error for a busy port that names its purpose, its process and the flag that changes it.
pub(crate) fn require_free(port: u16, purpose: &str, flag: &str) -> Result<(), UpError> {
    if port_is_free(port) {
        return Ok(());
    }
    let holder = port_holder(port).map_or_else(String::new, |(pid, name)| format!(" by {name} (pid {pid})"));
    Err(UpError::Conflict(format!(
        "port {port} ({purpose}) is in use{holder}: stop that program or choose another port with {flag}"
    )))
}

/// Finds the process that listens on a TCP port, if the system allows it (Linux, and only processes visible to this
/// user).
fn port_holder(port: u16) -> Option<(u32, String)> {
    let tables: String = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok())
        .collect();
    let inodes: Vec<String> = tables
        .lines()
        .filter_map(|row| listening_inode(row, port))
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?;
    processes.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let files = fs::read_dir(process.path().join("fd")).ok()?;
        let holds = files.flatten().any(|file| {
            fs::read_link(file.path())
                .is_ok_and(|link| inodes.iter().any(|inode| link.as_os_str() == inode.as_str()))
        });
        holds.then_some(pid).zip(process_name(pid))
    })
}

/// The socket inode in a row of `/proc/net/tcp` (proc(5)), if the row is a listener (state `0A`) on `port`.
fn listening_inode(row: &str, port: u16) -> Option<&str> {
    let mut fields = row.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let listens = state == "0A" && u16::from_str_radix(local.rsplit(':').next()?, 16).ok()? == port;
    listens.then(|| fields.nth(5)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_port_is_refused_with_its_holder_and_its_flag() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = require_free(port, "API", "--port").unwrap_err().to_string();
        assert!(error.contains(&format!("port {port} (API) is in use")), "{error}");
        assert!(error.contains("choose another port with --port"), "{error}");
        if cfg!(target_os = "linux") {
            assert!(error.contains(&format!("(pid {})", std::process::id())), "{error}");
        }
    }

    #[test]
    fn a_free_port_is_accepted() {
        // Another program may take a port after it was found.
        let mut ports = (0..100).filter_map(|_| free_port().ok());
        assert!(ports.any(|port| require_free(port, "API", "--port").is_ok()));
    }

    #[test]
    fn a_free_port_and_its_grpc_port_can_be_bound() {
        let port = free_port_with_grpc().unwrap();
        let _port = TcpListener::bind(loopback(port)).unwrap();
        let _twin = TcpListener::bind(loopback(port + GRPC_OFFSET)).unwrap();
    }

    #[test]
    fn only_listeners_on_the_port_itself_count() {
        let listener =
            "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  0  0 4711 1 0";
        assert_eq!(listening_inode(listener, 8080), Some("4711"));
        assert_eq!(listening_inode(listener, 8081), None);
        assert_eq!(listening_inode(&listener.replace(" 0A ", " 01 "), 8080), None);
    }
}
