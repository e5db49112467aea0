//! Address and timeouts of the HTTP server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::declare::settings;
use super::validators;
use ipnet::IpNet;

settings! {
    /// The `[server]` section.
    pub struct ServerConfig {
        /// Address to listen on. The default accepts connections only from the same machine; "0.0.0.0" accepts
        /// connections from all networks, and then needs a reverse proxy with TLS.
        pub host: IpAddr = "127.0.0.1";
        /// TCP port to listen on. 0 selects a free port.
        pub port: u16 = 8080, range(0, 65_535);
        /// Public URL of the service, used in links: scheme, host and port.
        pub public_url: Option<String>,
            text("a URL such as \"https://files.example.org\"", validators::web_address),
            unset("the listening address is used");
        /// HTTP worker threads. 0 means one per core.
        pub workers: usize = 0, range(0, 1024);
        /// Maximum size of a file. The maximum of this setting is that of an S3 object.
        pub max_file_size_mib: u64 = 10_240, mebibytes(1, 5 * 1024 * 1024, 1), formerly("max_file_size_mb");
        /// Time limit of a request without file content. Uploads and downloads are limited by `client_idle_timeout`
        /// instead.
        pub request_timeout: Duration = "30s", lasts("1s", "1h");
        /// How long a client may send or receive no data during a transfer before the connection is closed.
        pub client_idle_timeout: Duration = "60s", lasts("1s", "1h");
        /// How long requests in flight may take to finish after SIGTERM.
        pub shutdown_grace: Duration = "30s", lasts("0s", "1h");
        /// Networks of the reverse proxies in front of the service, separated by commas. Only these proxies are trusted
        /// to report client addresses, which request limits and the audit log use.
        pub trusted_proxies: Vec<IpNet>,
            text("networks such as \"127.0.0.1, 10.0.0.0/8\"", validators::networks),
            unset("the peer of the connection is the client");
        /// The header in which those proxies report the client address. The other header is ignored, because most
        /// proxies forward it unchanged from the client.
        pub forwarded_header: ForwardedHeader = "x-forwarded-for";
        /// Other web sites that may call the API from a browser.
        pub cors: CorsConfig;
    }
}

/// A header in which proxies report the client address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::EnumString, strum::VariantNames)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto`.
    #[strum(serialize = "x-forwarded-for")]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    #[strum(serialize = "forwarded")]
    Forwarded,
}

settings! {
    /// The `[server.cors]` section.
    pub struct CorsConfig {
        /// Origins that may call the API from a browser, separated by commas. They may send credentials; "*" allows all
        /// origins, without credentials.
        pub allowed_origins: Vec<String>,
            text("origins such as \"https://app.example.org\", or \"*\"", validators::origins),
            unset("no other origin");
        /// How long browsers may cache the response to a preflight request.
        pub max_age: Duration = "1h", lasts("0s", "1d");
    }
}

impl ServerConfig {
    /// The address and port to listen on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// The public address of the service: `public_url`, or else the listening address as seen from this machine.
    pub fn base_url(&self) -> String {
        self.public_url.clone().unwrap_or_else(|| {
            let host = match self.host {
                IpAddr::V4(all) if all.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(all) if all.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                host => host,
            };
            format!("http://{}", SocketAddr::new(host, self.port))
        })
    }

    /// Maximum file size, in bytes.
    pub fn max_file_size_bytes(&self) -> u64 {
        self.max_file_size_mib.saturating_mul(super::MEBIBYTE)
    }
}
