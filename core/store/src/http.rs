//! The one pooled HTTP client that carries the bytes of all stores.

use std::time::Duration;

/// The connection pool shared by all stores. Cheap to clone; make it once for each process.
#[derive(Debug, Clone)]
pub struct HttpClient(pub(super) reqwest::Client);

/// The HTTP client could not be set up.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be set up: {0}")]
pub struct HttpClientError(#[from] reqwest::Error);

/// How long a TCP and TLS handshake may take, unless the operator says otherwise.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Kept below the shortest keep-alive of common S3 servers (20 s), so that a connection is closed here first and no
/// request is sent on one that the server is just closing.
const IDLE_CONNECTION_LIFE: Duration = Duration::from_secs(15);

/// Idle connections kept for each host.
const IDLE_CONNECTIONS: usize = 128;

impl HttpClient {
    /// A client that trusts the system's certificates, with `connect_deadline` for each new connection. Reads the
    /// certificate files: call it at start.
    pub fn new(connect_deadline: Duration) -> Result<Self, HttpClientError> {
        install_crypto();
        let client = reqwest::Client::builder()
            .connect_timeout(connect_deadline)
            .pool_idle_timeout(IDLE_CONNECTION_LIFE)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            // Parallel transfers need parallel connections, not one shared HTTP/2 window.
            .http1_only()
            // A redirect means a wrong region or endpoint; following it would break the signature.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("nightferry/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self(client))
    }
}

/// Chooses the process-wide TLS backend. Once set it stays; whoever was first chose the same one.
pub fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing the race against another thread leaves a default in place all the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
