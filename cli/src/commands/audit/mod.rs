//! `nightferry audit`: the audit log.

mod tail;

use clap::Subcommand;
use nightferry_core::services::Services;

use super::App;
use crate::errors::{Exit, Failure};

/// Subcommands of `audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show the latest events; --follow waits for new ones
    Tail(tail::TailArgs),
}

pub(super) async fn run(app: &App, command: AuditCommand) -> Result<Exit, Failure> {
    app.in_session(async |services: &Services| match command {
        AuditCommand::Tail(args) => tail::run(app, &services.context, &args).await,
    })
    .await
}
