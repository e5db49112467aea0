//! `nightferry serve`: the HTTP API.

use std::net::IpAddr;

use clap::Args;
use nightferry_core::telemetry::Role;
use tokio_util::sync::CancellationToken;

use super::{App, service};
use crate::errors::{Exit, Failure};
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry serve
  nightferry serve --host 0.0.0.0 --port 8080 --migrate
  DATABASE_URL=postgres://… nightferry serve

On SIGTERM and Ctrl-C, requests in flight finish within server.shutdown_grace; a second signal terminates \
the API immediately.

Start as many instances as you need, behind a proxy. If a store is down, the API logs a warning and starts \
without it.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Listen on this address: short for --set server.host=ADDRESS
    #[arg(long, value_name = "ADDRESS")]
    host: Option<IpAddr>,
    /// Listen on this port: short for --set server.port=PORT
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,
    /// Apply missing migrations first instead of refusing to start
    #[arg(long)]
    migrate: bool,
}

pub(super) async fn run(app: &App, args: ServeArgs) -> Result<Exit, Failure> {
    let (session, requests) = service::start(app, overrides(&args), Role::Api, args.migrate).await?;
    let context = &session.services.context;

    let server = nightferry_api::bind(session.services.clone())
        .map_err(|error| service::cannot_listen(&error, "serve"))?;
    let url = context.config.server.base_url();
    let docs = format!("{url}/api/docs");
    let document = document!(address: server.address().to_string(), url: &url, docs_url: &docs);
    app.output.result(&document, |_| format!("Serving {url} (docs: {docs})"))?;

    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let serving = async move { Ok(server.run(stop).await?) };
    service::until_stopped(serving, shutdown, requests, "the API").await
}

fn overrides(args: &ServeArgs) -> Vec<(String, String)> {
    let host = args.host.map(|host| ("server.host".to_owned(), host.to_string()));
    let port = args.port.map(|port| ("server.port".to_owned(), port.to_string()));
    host.into_iter().chain(port).collect()
}
