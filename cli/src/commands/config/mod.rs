//! `nightferry config`: look at the configuration without using it.

mod check;
mod show;

use clap::Subcommand;

use super::App;
use crate::errors::{Exit, Failure};

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Say everything that is wrong with it, and the fix
    #[command(after_help = check::EXAMPLES)]
    Check,
    /// Print every setting in force and where it came from
    Show(show::ShowArgs),
}

pub(super) fn run(app: &App, command: &ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check => check::run(app),
        ConfigCommand::Show(args) => show::run(app, args),
    }
}
