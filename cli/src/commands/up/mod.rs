//! `nightferry up`: everything on this machine, in one process and three servers. For trying and developing; production
//! runs `serve` and `worker` on servers of its own.

mod admin;
mod announce;
mod run;
mod settings;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nightferry_core::telemetry::Role;

use self::announce::Announcement;
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
  nightferry up --schedule '*/30 * * * * *'       cross every half minute, to watch it
  nightferry up --data-dir /srv/nightferry --no-worker

Everything is kept in the data folder; start it again and it is all there. What is not installed (Postgres, SeaweedFS) \
is fetched once. All of it listens on 127.0.0.1 alone. While it runs, the other commands find it by themselves in the \
folder it was started from. Ctrl-C stops everything in order; a second one hurries.";

/// Options of `up`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UpArgs {
    /// Keep everything in this folder
    #[arg(long, value_name = "FOLDER", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Port of the API
    #[arg(long, value_name = "PORT", default_value_t = 8080, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// Port of the local S3 server
    #[arg(long, value_name = "PORT", default_value_t = 9000, value_parser = clap::value_parser!(u16).range(1..))]
    local_s3_port: u16,
    /// Port of the S3 server that stands in for the cloud
    #[arg(long, value_name = "PORT", default_value_t = 9100, value_parser = clap::value_parser!(u16).range(1..))]
    cloud_s3_port: u16,
    /// Email address of the administrator's account, made at the first start
    #[arg(long, value_name = "EMAIL", default_value = "admin@nightferry.localhost")]
    admin_email: String,
    /// Its password; made up at the first start and kept in the data folder if left out
    #[arg(long, value_name = "PASSWORD")]
    admin_password: Option<String>,
    /// The S3 server to use; `auto` takes the one that made the data, or the one that is installed
    #[arg(long, value_name = "SERVER", value_enum, default_value_t = S3Choice::Auto)]
    s3_server: S3Choice,
    /// Do not start the worker
    #[arg(long)]
    no_worker: bool,
    /// When to cross: cron with seconds first; short for --set tiering.schedule=CRON
    #[arg(long, value_name = "CRON")]
    schedule: Option<String>,
}

/// An S3 server that can be started here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum S3Choice {
    /// The one that made the data, else what is installed
    Auto,
    /// SeaweedFS, fetched if it is not installed
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
    settings::refuse_what_cannot_be(&app.global)?;
    let mut requests = StopRequests::listen()?;
    let quiet = app.output.is_quiet();
    let reporter: &dyn Reporter = if quiet { &Quiet } else { &StderrLines };
    let data = DataDir::open(&args.data_dir)?;
    let options = options(&args);
    let mut parts = tokio::select! {
        parts = start_parts(&options, reporter) => parts?,
        // What was started so far stops with the future that is dropped here.
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
    app.output.note("Everything is stopped.");
    Ok(exit)
}

fn options(args: &UpArgs) -> UpOptions {
    UpOptions {
        data_dir: args.data_dir.clone(),
        port: args.port,
        local_s3_port: args.local_s3_port,
        cloud_s3_port: args.cloud_s3_port,
        s3_server: args.s3_server.into(),
    }
}

/// Everything between the servers and the services: configuration, tables, buckets, the administrator.
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
            cannot(format!("make the bucket of the store {}", store.name()))(error.into())
        })?;
    }
    let admin = admin::ensure(app, &session.services.accounts, data, args).await?;
    let server = nightferry_api::bind(session.services.clone())
        .map_err(|error| service::cannot_listen(&error, "up"))?;
    Announcement { context, data, parts, admin: &admin, config_file: &config_file, args }.print(app)?;
    Ok((session, server))
}
