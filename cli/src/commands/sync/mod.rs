//! `nightferry sync`: sync runs.

mod follow;
mod history;
mod plan;
mod progress;
mod run;
mod status;

use clap::Subcommand;
use nightferry_core::services::Services;

pub(super) use follow::worker_is_up;

use super::App;
use crate::errors::{Exit, Failure};

#[derive(Debug, Subcommand)]
pub(crate) enum SyncCommand {
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
    Show(history::ShowArgs),
    /// Sync now, and also retry permanently failed copies
    Retry(run::RetryArgs),
    /// Cancel a run: transfers in flight finish, everything else waits for the next run
    Cancel(run::CancelArgs),
}

pub(super) async fn run(app: &App, services: &Services, command: SyncCommand) -> Result<Exit, Failure> {
    let context = &services.context;
    match command {
        SyncCommand::Run(args) => run::run(app, context, args).await,
        SyncCommand::Plan(args) => plan::run(app, context, args).await,
        SyncCommand::Status => status::run(app, context).await,
        SyncCommand::History(args) => history::history(app, context, &args).await,
        SyncCommand::Show(args) => history::show(app, context, &args).await,
        SyncCommand::Retry(args) => run::retry(app, context, &args).await,
        SyncCommand::Cancel(args) => run::cancel(app, context, &args).await,
    }
}
