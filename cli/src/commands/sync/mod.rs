//! `nightferry sync`: the crossing.

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

pub(super) use follow::worker_is_up;

use super::{App, diagnosed};
use crate::errors::{Exit, Failure};

/// What to do with the crossing.
#[derive(Debug, Subcommand)]
pub enum SyncCommand {
    /// Ferry now what has not crossed yet
    Run(run::RunArgs),
    /// Show what a run would do, without doing it
    Plan(plan::PlanArgs),
    /// Say what runs, what waits, and when the next crossing is due
    #[command(after_help = status::EXAMPLES)]
    Status,
    /// List past runs, newest first
    History(history::HistoryArgs),
    /// Show one run with everything it gave up, and why
    Show(show::ShowArgs),
    /// Ferry now, and try again what was given up before
    Retry(retry::RetryArgs),
    /// Stop a run: what is in flight finishes, the rest waits for the next run
    Cancel(cancel::CancelArgs),
}

pub(super) async fn run(app: &App, command: SyncCommand) -> Result<Exit, Failure> {
    let session = app.session()?;
    let context = &session.services.context;
    let result = match command {
        SyncCommand::Run(args) => run::run(app, context, args).await,
        SyncCommand::Plan(args) => plan::run(app, context, args).await,
        SyncCommand::Status => status::run(app, context).await,
        SyncCommand::History(args) => history::run(app, context, &args).await,
        SyncCommand::Show(args) => show::run(app, context, &args).await,
        SyncCommand::Retry(args) => retry::run(app, context, &args).await,
        SyncCommand::Cancel(args) => cancel::run(app, context, &args).await,
    };
    diagnosed(context, result).await
}
