//! `nightferry file`: look at single files.

mod why;

use clap::Subcommand;

use super::{App, diagnosed};
use crate::errors::{Exit, Failure};

/// What to do with a file.
#[derive(Debug, Subcommand)]
pub enum FileCommand {
    /// Say where a file is, why it is there, and what happens to it next
    Why(why::WhyArgs),
}

pub(super) async fn run(app: &App, command: FileCommand) -> Result<Exit, Failure> {
    let session = app.session()?;
    let FileCommand::Why(args) = command;
    diagnosed(&session.context, why::run(app, &session.context, &args).await).await
}
