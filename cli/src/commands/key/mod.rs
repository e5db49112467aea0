//! `nightferry key`: the keys of encrypted stores.

mod generate;
mod list;

use clap::Subcommand;
use nightferry_core::services::Services;

use super::App;
use crate::errors::{Exit, Failure};

/// Subcommands of `key`.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Generate a key and insert it into a key file, or print it
    Generate(generate::GenerateArgs),
    /// Show the keys of each store, and how many copies need them
    #[command(after_help = list::EXAMPLES)]
    List,
}

pub(super) async fn run(app: &App, command: &KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Generate(args) => generate::run(app, args),
        KeyCommand::List => {
            app.in_session(async |services: &Services| list::run(app, &services.context).await).await
        }
    }
}
