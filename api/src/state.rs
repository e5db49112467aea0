//! What all handlers share. Made once per server.

use std::net::SocketAddr;

use nightferry_core::auth::Accounts;
use nightferry_core::context::Context;
use nightferry_core::file::Files;
use nightferry_core::ids::FileId;
use nightferry_core::services::Services;
use tokio::runtime::Handle;

use crate::health::Probes;
use crate::limits::Limits;
use crate::metrics::Metrics;

/// See the module.
pub(crate) struct Api {
    /// Configuration, database, stores and clock.
    pub(crate) context: Context,
    /// For signing in and checking tokens.
    pub(crate) accounts: Accounts,
    /// For uploads and downloads.
    pub(crate) files: Files,
    /// Where people reach the service, without a trailing slash.
    pub(crate) base_url: String,
    /// Whose pages may use the session's cookies: the service's own origin and those of the configuration.
    pub(crate) origins: Vec<String>,
    /// The runtime that carries the connections to database and stores.
    pub(crate) runtime: Handle,
    /// How many requests anybody may make.
    pub(crate) limits: Limits,
    /// Health, looked at now and then.
    pub(crate) probes: Probes,
    /// The process's metrics.
    pub(crate) metrics: Metrics,
}

impl Api {
    /// `address` is where the server really listens, which differs from the configuration where that says port 0.
    pub(crate) fn new(services: Services, address: SocketAddr, runtime: Handle) -> Self {
        let Services { context, accounts, files, .. } = services;
        let mut server = context.config.server.clone();
        server.port = address.port();
        let base_url = server.base_url();
        let mut origins = context.config.auth.cookie_origins.clone();
        origins.extend(origin_of(&base_url));
        // First: what the others count from the beginning would be lost otherwise.
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

    /// This service's own download address of a file.
    pub(crate) fn access_url(&self, file: FileId) -> String {
        format!("{}/api/files/{file}/download", self.base_url)
    }
}

/// Scheme, host and port of an address, as browsers write them.
fn origin_of(address: &str) -> Option<String> {
    let (scheme, rest) = address.split_once("://")?;
    let host = rest.split('/').next()?;
    let usual = if scheme == "https" { ":443" } else { ":80" };
    Some(format!("{scheme}://{}", host.strip_suffix(usual).unwrap_or(host)))
}
