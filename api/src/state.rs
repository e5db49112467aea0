//! State shared by all handlers. Created once per server.

use std::net::SocketAddr;

use nightferry_core::auth::Accounts;
use nightferry_core::context::Context;
use nightferry_core::file::Files;
use nightferry_core::services::Services;
use tokio::runtime::Handle;

use crate::health::Probes;
use crate::limits::Limits;
use crate::metrics::Metrics;

pub(crate) struct Api {
    /// Configuration, database, stores and clock.
    pub(crate) context: Context,
    /// State for sign-in and token checks.
    pub(crate) accounts: Accounts,
    /// State for uploads and downloads.
    pub(crate) files: Files,
    /// The public URL of the service, without a trailing slash.
    pub(crate) base_url: String,
    /// The origins whose pages may use the session cookies: that of the service, and the configured ones.
    pub(crate) origins: Vec<String>,
    /// The runtime of the connections to database and stores.
    pub(crate) runtime: Handle,
    /// The rate limiter.
    pub(crate) limits: Limits,
    /// The readiness checks.
    pub(crate) probes: Probes,
    /// The process's metrics.
    pub(crate) metrics: Metrics,
}

impl Api {
    /// `address` is the bound address, which differs from the configuration for port 0.
    pub(crate) fn new(services: Services, address: SocketAddr, runtime: Handle) -> Self {
        let Services { context, accounts, files, .. } = services;
        let mut server = context.config.server.clone();
        server.port = address.port();
        let base_url = server.base_url();
        let mut origins = context.config.auth.cookie_origins.clone();
        origins.extend(origin_of(&base_url));
        // First: otherwise counts made during initialization would be lost.
        let metrics = Metrics::of_process();
        Self {
            base_url,
            origins,
            runtime,
            limits: Limits::new(&context.config.limits, &context.clock),
            probes: Probes::default(),
            metrics,
            context,
            accounts,
            files,
        }
    }
}

/// Scheme, host and port of a URL, in the form of an origin.
fn origin_of(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let host = rest.split('/').next()?;
    let usual = if scheme == "https" { ":443" } else { ":80" };
    Some(format!("{scheme}://{}", host.strip_suffix(usual).unwrap_or(host)))
}
