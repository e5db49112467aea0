//! `nightferry store`: the S3 stores.

mod check;
mod probe;

use clap::Subcommand;

use super::App;
use crate::errors::{Exit, Failure};

/// What to do with the stores.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Try every store: reachable, bucket, and write, read and delete of a small object
    Check(check::CheckArgs),
}

pub(super) async fn run(app: &App, command: StoreCommand) -> Result<Exit, Failure> {
    let session = app.session()?;
    let StoreCommand::Check(args) = command;
    check::run(app, &session.context, &args).await
}
