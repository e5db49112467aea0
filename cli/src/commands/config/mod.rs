//! `nightferry config`: inspects the configuration without using it.

mod check;
mod show;

use clap::Subcommand;

use super::App;
use crate::errors::{Exit, Failure};

/// Subcommands of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report all errors and their fixes
    #[command(after_help = check::EXAMPLES)]
    Check,
    /// Print all effective settings and the source of each
    Show(show::ShowArgs),
}

pub(super) fn run(app: &App, command: &ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check => check::run(app),
        ConfigCommand::Show(args) => show::run(app, args),
    }
}
