//! `nightferry sync retry`: a run that also retries permanently failed copies.

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::db::runs::RunScope;

use super::App;
use super::run::request;
use crate::errors::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  nightferry sync show RUN         what failed, and why; fix the cause first
  nightferry sync retry --wait     then retry what failed, and sync what is new";

/// Options of `sync retry`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RetryArgs {
    /// Follow the run until it ends
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(app: &App, context: &Context, args: &RetryArgs) -> Result<Exit, Failure> {
    let scope = RunScope { retry_failed: true, ..RunScope::default() };
    request(app, context, scope, args.wait).await
}
