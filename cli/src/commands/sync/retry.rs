//! `nightferry sync retry`: a run that also takes what earlier runs gave up.

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::db::runs::RunScope;

use super::App;
use super::run::request;
use crate::errors::{Exit, Failure};

const EXAMPLES: &str = "\
Examples:
  nightferry sync show RUN         what failed, and why; mend the cause first
  nightferry sync retry --wait     then try again what was given up, and ferry what is new";

/// Options of `sync retry`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RetryArgs {
    /// Watch the run until it ends
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(app: &App, context: &Context, args: &RetryArgs) -> Result<Exit, Failure> {
    let scope = RunScope { retry_failed: true, ..RunScope::default() };
    request(app, context, scope, args.wait).await
}
