//! `nightferry sync`: sync runs.

mod cancel;
mod follow;
mod history;
mod plan;
mod progress;
mod retry;
mod run;
mod show;
mod status;
mod wait;

use clap::Subcommand;
use nightferry_core::services::Services;

pub(super) use follow::worker_is_up;

use super::App;
use crate::errors::{Exit, Failure};

/// Subcommands of `sync`.
#[derive(Debug, Subcommand)]
pub enum SyncCommand {
    /// Sync all files that have no cloud copy yet
    Run(run::RunArgs),
    /// Show what a run would do, without doing it
    Plan(plan::PlanArgs),
    /// Show the active run, the backlog, and the next scheduled run
    #[command(after_help = status::EXAMPLES)]
    Status,
    /// List past runs, newest first
    History(history::HistoryArgs),
    /// Show one run with its failures and their reasons
    Show(show::ShowArgs),
    /// Sync now, and also retry permanently failed copies
    Retry(retry::RetryArgs),
    /// Cancel a run: transfers in flight finish, everything else waits for the next run
    Cancel(cancel::CancelArgs),
}

pub(super) async fn run(app: &App, command: SyncCommand) -> Result<Exit, Failure> {
    app.in_session(async |services: &Services| match command {
        SyncCommand::Run(args) => run::run(app, &services.context, args).await,
        SyncCommand::Plan(args) => plan::run(app, &services.context, args).await,
        SyncCommand::Status => status::run(app, &services.context).await,
        SyncCommand::History(args) => history::run(app, &services.context, &args).await,
        SyncCommand::Show(args) => show::run(app, &services.context, &args).await,
        SyncCommand::Retry(args) => retry::run(app, &services.context, &args).await,
        SyncCommand::Cancel(args) => cancel::run(app, &services.context, &args).await,
    })
    .await
}
