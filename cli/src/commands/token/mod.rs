//! `nightferry token`: personal access tokens, with which programs act for an account.

mod create;
mod list;
mod revoke;

use clap::Subcommand;
use nightferry_core::services::Services;

use super::{App, user};
use crate::errors::{Exit, Failure};

/// What to do with personal access tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token with which a program acts for an account
    Create(create::CreateArgs),
    /// List the tokens of an account
    List(list::ListArgs),
    /// Take a token back: it is refused from then on
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
