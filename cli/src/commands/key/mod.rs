//! `nightferry key`: the keys of encrypted stores.

mod generate;
mod list;

use clap::Subcommand;

use super::{App, diagnosed};
use crate::errors::{Exit, Failure};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Make a key, and put it in front of a key file or print it
    Generate(generate::GenerateArgs),
    /// Show each store's keys, and how many copies need them
    #[command(after_help = list::EXAMPLES)]
    List,
}

pub(super) async fn run(app: &App, command: &KeyCommand) -> Result<Exit, Failure> {
    match command {
        KeyCommand::Generate(args) => generate::run(app, args),
        KeyCommand::List => {
            let session = app.session()?;
            diagnosed(&session.services.context, list::run(app, &session.services.context).await).await
        }
    }
}
