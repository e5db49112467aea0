//! `nightferry keys`: the keys that sign access tokens.

mod list;
mod rotate;

use clap::Subcommand;
use nightferry_core::services::Services;

use super::App;
use crate::errors::{Exit, Failure};

/// Subcommands of `keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// List the keys and their states
    #[command(after_help = list::EXAMPLES)]
    List,
    /// Create a new key that takes over
    Rotate(rotate::RotateArgs),
}

pub(super) async fn run(app: &App, command: KeysCommand) -> Result<Exit, Failure> {
    app.in_session(async |services: &Services| match command {
        KeysCommand::List => list::run(app, &services.accounts).await,
        KeysCommand::Rotate(args) => rotate::run(app, &services.accounts, &args).await,
    })
    .await
}
