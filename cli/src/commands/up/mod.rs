//! `nightferry up`: everything on this machine, in one process and three servers. For evaluation and development;
//! production runs `serve` and `worker` with separate servers.

mod admin;
mod announce;
mod run;
mod settings;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nightferry_core::telemetry::Role;

use self::announce::announce;
use super::{App, Session, migrate, service};
use crate::errors::{Exit, Failure, cannot};
use crate::settings::DEFAULT_DATA_DIR;
use crate::signals::StopRequests;
use nightferry_devservers::{
    DataDir, Parts, Quiet, Reporter, S3Software, StderrLines, UpOptions, start_parts,
};

const EXAMPLES: &str = "\
Examples:
  nightferry up
  nightferry up --port 8081 --local-s3-port 9001 --cloud-s3-port 9101
  nightferry up --schedule '*/30 * * * * *'       sync every 30 seconds, for a demonstration
  nightferry up --data-dir /srv/nightferry --no-worker

All data is stored in the data folder and is still there at the next start. Missing servers (Postgres, \
SeaweedFS) are downloaded once. Everything listens on 127.0.0.1 only. The other commands find a running \
instance in the folder it was started from. Ctrl-C stops everything gracefully; a second one stops it \
immediately.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    /// Store all data in this folder
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Port of the API
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Port of the local S3 server
    #[arg(long, value_name = "PORT", default_value_t = 9000, value_parser = clap::value_parser!(u16).range(1..))]
    local_s3_port: u16,
    /// Port of the S3 server that stands in for the cloud store
    #[arg(long, value_name = "PORT", default_value_t = 9100, value_parser = clap::value_parser!(u16).range(1..))]
    cloud_s3_port: u16,
    /// Email address of the administrator's account, created at the first start
    #[arg(long, value_name = "EMAIL", default_value = "admin@nightferry.localhost")]
    admin_email: String,
    /// Password of the administrator; by default it is generated at the first start and stored in the data folder
    #[arg(long, value_name = "PASSWORD")]
    admin_password: Option<String>,
    /// The S3 server to use; `auto` selects the one that created the data, or the one that is installed
    #[arg(long, value_name = "SERVER", value_enum, default_value_t = S3Choice::Auto)]
    s3_server: S3Choice,
    /// Do not start the worker
    #[arg(long)]
    no_worker: bool,
    /// Schedule of the runs: cron with seconds first; short for --set tiering.schedule=CRON
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
}

/// An S3 server that can be started here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum S3Choice {
    /// The one that created the data, otherwise an installed one
    Auto,
    /// SeaweedFS, downloaded if it is not installed
    Seaweedfs,
    /// MinIO, which must be installed
    Minio,
}

impl From<S3Choice> for S3Software {
    fn from(choice: S3Choice) -> Self {
        match choice {
            S3Choice::Auto => Self::Auto,
            S3Choice::Seaweedfs => Self::Seaweedfs,
            S3Choice::Minio => Self::Minio,
        }
    }
}

pub(super) async fn run(app: &App, args: UpArgs) -> Result<Exit, Failure> {
    settings::reject_unsupported(&app.global)?;
    let mut requests = StopRequests::listen()?;
    let quiet = app.output.is_quiet();
    let reporter: &dyn Reporter = if quiet { &Quiet } else { &StderrLines };
    let data = DataDir::open(&args.data_dir)?;
    let options = UpOptions {
        data_dir: args.data_dir.clone(),
        port: args.port,
        local_s3_port: args.local_s3_port,
        cloud_s3_port: args.cloud_s3_port,
        s3_server: args.s3_server.into(),
    };
    let mut parts = tokio::select! {
        parts = start_parts(&options, reporter) => parts?,
        // Servers that have been started are stopped when this future is dropped.
        () = requests.next() => return Ok(Exit::Interrupted),
    };
    let prepared = tokio::select! {
        prepared = prepare(app, &args, &data, &parts) => prepared.map(Some),
        () = requests.next() => Ok(None),
    };
    let outcome = match prepared {
        Ok(Some((session, server))) => {
            let services = run::Services { session, server, with_worker: !args.no_worker };
            run::until_stopped(app, services, &mut parts, &mut requests, reporter).await
        }
        Ok(None) => Ok(Exit::Interrupted),
        Err(failure) => Err(failure),
    };
    let stopped = parts.stop(requests.next(), reporter).await;
    let exit = outcome?;
    stopped?;
    app.output.note("Everything has been stopped.");
    Ok(exit)
}

/// Prepares everything between the servers and the services: configuration, tables, buckets, the administrator.
async fn prepare(
    app: &App,
    args: &UpArgs,
    data: &DataDir,
    parts: &Parts,
) -> Result<(Session, nightferry_api::Server), Failure> {
    let (config, config_file) = settings::settle(app, args, data, parts)?;
    let role = if args.no_worker { Role::Api } else { Role::ApiAndWorker };
    let session = Session::new(config, role)?;
    let context = &session.services.context;
    migrate::apply(context).await?;
    for store in context.stores.all() {
        store.ensure_bucket().await.map_err(|error| {
            cannot(format!("create the bucket of the store {}", store.name()))(error.into())
        })?;
    }
    service::check_identities(context, role).await?;
    service::check_catalogue(context).await;
    let admin = admin::ensure(app, &session.services.accounts, data, args).await?;
    let server = nightferry_api::bind(session.services.clone())
        .map_err(|error| service::cannot_listen(&error, "up"))?;
    announce(app, &context.config, data, parts, admin, &config_file, args)?;
    Ok((session, server))
}
