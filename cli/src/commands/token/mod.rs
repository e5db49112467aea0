//! `nightferry token`: personal access tokens.

mod create;
mod list;
mod revoke;

use clap::Subcommand;
use nightferry_core::services::Services;

use super::{App, user};
use crate::errors::{Exit, Failure};

/// Subcommands of `token`.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Create a token with which a program can act for an account
    Create(create::CreateArgs),
    /// List the tokens of an account
    List(list::ListArgs),
    /// Revoke a token
    Revoke(revoke::RevokeArgs),
}

pub(super) async fn run(app: &App, command: TokenCommand) -> Result<Exit, Failure> {
    app.in_session(async |services: &Services| match command {
        TokenCommand::Create(args) => create::run(app, &services.context, args).await,
        TokenCommand::List(args) => list::run(app, &services.context, &args).await,
        TokenCommand::Revoke(args) => revoke::run(app, &services.context, &args).await,
    })
    .await
}
