//! `nightferry audit`: who did what.

mod tail;

use clap::Subcommand;
use nightferry_core::services::Services;

use super::App;
use crate::errors::{Exit, Failure};

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show the last acts, and go on with --follow
    Tail(tail::TailArgs),
}

pub(super) async fn run(app: &App, command: AuditCommand) -> Result<Exit, Failure> {
    app.in_session(async |services: &Services| match command {
        AuditCommand::Tail(args) => tail::run(app, &services.context, &args).await,
    })
    .await
}
