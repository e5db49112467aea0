//! The pooled HTTP client that transfers the content of all stores.

use std::time::Duration;

/// The connection pool shared by all stores. Cheap to clone; create it once per process.
#[derive(Debug, Clone)]
pub struct HttpClient(pub(super) reqwest::Client);

/// The HTTP client could not be created.
#[derive(Debug, thiserror::Error)]
#[error("cannot create the HTTP client: {0}")]
pub struct HttpClientError(#[from] reqwest::Error);

/// Default timeout of TCP and TLS handshakes.
pub const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// Below the shortest keep-alive of common S3 servers (20 s), so that a connection is closed here first and no request
/// is sent on one that the server is closing.
const IDLE_CONNECTION_TIMEOUT: Duration = Duration::from_secs(15);

/// Idle connections per host.
const IDLE_CONNECTIONS: usize = 128;

impl HttpClient {
    /// A client that trusts the system's certificates, with `connect_deadline` for each new connection. Reads the
    /// certificate files: create it at start.
    pub fn new(connect_deadline: Duration) -> Result<Self, HttpClientError> {
        install_crypto();
        let client = reqwest::Client::builder()
            .connect_timeout(connect_deadline)
            .pool_idle_timeout(IDLE_CONNECTION_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(30))
            // Parallel transfers need parallel connections, not one shared HTTP/2 window.
            .http1_only()
            // A redirect means a wrong region or endpoint; following it would invalidate the signature.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("nightferry/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self(client))
    }
}

/// Selects the process-wide TLS backend. The first call wins; all callers select the same one.
pub fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Losing a race against another thread also leaves a default in place.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}
