//! `nightferry audit`: who did what.

mod tail;

use clap::Subcommand;

use super::{App, diagnosed};
use crate::errors::{Exit, Failure};

/// What to do with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show the last acts, and go on with --follow
    Tail(tail::TailArgs),
}

pub(super) async fn run(app: &App, command: AuditCommand) -> Result<Exit, Failure> {
    let session = app.session()?;
    let context = &session.services.context;
    let result = match command {
        AuditCommand::Tail(args) => tail::run(app, context, &args).await,
    };
    diagnosed(context, result).await
}
