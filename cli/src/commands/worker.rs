//! `nightferry worker`: the worker process.

use clap::Args;
use nightferry_core::telemetry::Role;
use tokio_util::sync::CancellationToken;

use super::{App, service};
use crate::errors::{Exit, Failure};
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry worker
  nightferry worker --set tiering.concurrency=32
  SYNC_LOG_FILE=/var/log/nightferry/sync.log nightferry worker

On SIGTERM and Ctrl-C, transfers in flight finish within tiering.shutdown_grace, and all others are released; a second \
signal terminates the worker immediately. No work is lost: other workers continue it. Start as many workers as you need.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct WorkerArgs {
    /// Apply missing migrations first instead of refusing to start
    #[arg(long)]
    migrate: bool,
}

pub(super) async fn run(app: &App, args: WorkerArgs) -> Result<Exit, Failure> {
    let (session, requests) = service::start(app, Vec::new(), Role::Worker, args.migrate).await?;
    let tiering = &session.services.context.config.tiering;
    let (schedule, zone) = (&tiering.schedule, tiering.time_zone.to_string());
    let document = document!(pid: std::process::id(), schedule: schedule, time_zone: &zone);
    app.output
        .result(&document, |_| format!("Running syncs on the schedule {schedule} ({zone}) and on request"))?;

    let shutdown = CancellationToken::new();
    let service = nightferry_worker::run(session.services.engine.clone(), shutdown.clone());
    service::until_stopped(service, shutdown, requests, "the worker").await
}
