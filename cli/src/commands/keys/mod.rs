//! `nightferry keys`: the keys that sign access tokens.

mod list;
mod rotate;

use clap::Subcommand;
use nightferry_core::services::Services;

use super::App;
use crate::errors::{Exit, Failure};

/// What to do with the keys that sign access tokens.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys and what each does now
    #[command(after_help = list::EXAMPLES)]
    List,
    /// Make a new key that takes over
    Rotate(rotate::RotateArgs),
}

pub(super) async fn run(app: &App, command: KeysCommand) -> Result<Exit, Failure> {
    app.in_session(async |services: &Services| match command {
        KeysCommand::List => list::run(app, &services.accounts).await,
        KeysCommand::Rotate(args) => rotate::run(app, &services.accounts, &args).await,
    })
    .await
}
