//! A minimal HTTP request to check whether a server on the loopback address responds. No client library: it needs no
//! TLS, no pool and no body.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(2);
/// `HTTP/1.1 200`: the only part of the response that is read.
const STATUS_LINE_START: usize = 12;

/// The status of `GET path`, or `None` if there is no HTTP response within two seconds.
pub(crate) async fn http_status(address: SocketAddr, path: &str) -> Option<u16> {
    timeout(DEADLINE, ask(address, path)).await.ok().flatten()
}

async fn ask(address: SocketAddr, path: &str) -> Option<u16> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut start = [0_u8; STATUS_LINE_START];
    stream.read_exact(&mut start).await.ok()?;
    std::str::from_utf8(&start).ok()?.strip_prefix("HTTP/1.")?.get(2..)?.parse().ok()
}
