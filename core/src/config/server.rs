//! How the API listens and how long it waits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use super::spec::{Kind, Spec};
use super::{rules, words};

/// The `[server]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address to listen on.
    pub host: IpAddr,
    /// TCP port to listen on.
    pub port: u16,
    /// Where people reach the service, without a trailing slash.
    #[serde(deserialize_with = "words::optional")]
    pub public_url: Option<String>,
    /// HTTP worker threads; `None` means one for each core.
    #[serde(deserialize_with = "words::zero_is_none")]
    pub workers: Option<usize>,
    /// Largest file accepted, in MiB.
    pub max_file_size_mb: u64,
    /// Deadline of a request that carries no file.
    #[serde(deserialize_with = "words::duration")]
    pub request_timeout: Duration,
    /// How long a client may send or take nothing while a file passes.
    #[serde(deserialize_with = "words::duration")]
    pub client_idle_timeout: Duration,
    /// How long requests in flight may take to finish after SIGTERM.
    #[serde(deserialize_with = "words::duration")]
    pub shutdown_grace: Duration,
    /// Networks of the proxies in front, which are believed about where a request came from.
    #[serde(deserialize_with = "words::parsed_list")]
    pub trusted_proxies: Vec<IpNet>,
    /// In which header they say it.
    pub forwarded_header: ForwardedHeader,
    /// Which other web sites may call.
    pub cors: CorsConfig,
}

/// A header in which proxies name the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto`.
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    #[serde(rename = "forwarded")]
    Forwarded,
}

/// The `[server.cors]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorsConfig {
    /// Their origins; `*` alone: all, without credentials.
    #[serde(deserialize_with = "words::list")]
    pub allowed_origins: Vec<String>,
    /// How long a browser may remember the answer to a preflight.
    #[serde(deserialize_with = "words::duration")]
    pub max_age: Duration,
}

impl ServerConfig {
    /// The address and port to listen on.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host, self.port)
    }

    /// Where people reach the service: `public_url`, or else the listening address as this machine sees it.
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

    /// Largest file accepted, in bytes.
    pub fn max_file_size_bytes(&self) -> u64 {
        self.max_file_size_mb.saturating_mul(super::MEBIBYTE)
    }
}

pub(super) const SETTINGS: &[Spec] = &[
    Spec::new(
        "server.host",
        Kind::Text { what: "an IP address such as \"127.0.0.1\" or \"0.0.0.0\"", rule: rules::ip_address },
        "Address to listen on. The default takes calls from this machine alone; \"0.0.0.0\" takes them from everywhere, \
         which wants a TLS proxy in front.",
    ),
    Spec::new("server.port", Kind::count(0, 65_535), "TCP port to listen on. 0 takes a free one."),
    Spec::new(
        "server.public_url",
        Kind::Text { what: "a URL such as \"https://files.example.org\"", rule: rules::web_address },
        "Where people reach the service, as it stands in links: scheme, host and port.",
    )
    .optional("the listening address is used"),
    Spec::new("server.workers", Kind::count(0, 1024), "HTTP worker threads. 0 means one for each core."),
    Spec::new(
        "server.max_file_size_mb",
        Kind::mebibytes(1, 5 * 1024 * 1024, 1),
        "Largest file accepted. The upper bound is what S3 takes as one object.",
    ),
    Spec::new(
        "server.request_timeout",
        Kind::seconds(1, 3600),
        "Deadline of a request that carries no file. Uploads and downloads are bounded by client_idle_timeout instead.",
    ),
    Spec::new(
        "server.client_idle_timeout",
        Kind::seconds(1, 3600),
        "How long a client may send or take nothing while a file passes, before the connection is closed.",
    ),
    Spec::new(
        "server.shutdown_grace",
        Kind::seconds(0, 3600),
        "How long requests in flight may take to finish after SIGTERM.",
    ),
    Spec::new(
        "server.trusted_proxies",
        Kind::Text { what: "networks such as \"127.0.0.1, 10.0.0.0/8\"", rule: rules::networks },
        "Networks of the reverse proxies in front, separated by commas. Only they are believed about who the client is, \
         which limits and the audit log need to tell clients apart.",
    )
    .optional("the other end of the connection is the client"),
    Spec::new(
        "server.forwarded_header",
        Kind::OneOf(&["x-forwarded-for", "forwarded"]),
        "The header in which those proxies name the client. The other one is ignored: what a client puts there itself \
         passes through most proxies.",
    ),
    Spec::new(
        "server.cors.allowed_origins",
        Kind::Text { what: "origins such as \"https://app.example.org\", or \"*\"", rule: rules::origins },
        "Origins of other web sites whose pages may call the API from a browser, separated by commas. They may send \
         credentials; \"*\" lets every site call, without credentials.",
    )
    .optional("no other site may"),
    Spec::new(
        "server.cors.max_age",
        Kind::seconds(0, 86_400),
        "How long browsers may remember that a site may call.",
    ),
];
