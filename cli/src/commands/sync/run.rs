//! `nightferry sync run`: requests a run, and optionally follows it.

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::db::enums::RunTrigger;
use nightferry_core::db::runs::{NewRun, RunScope};
use nightferry_core::ids::{FileId, FolderId, PlanId};
use nightferry_core::tiering::run;

use super::{App, wait};
use crate::commands::{origin, user};
use crate::errors::{Exit, Failure, cannot};

const EXAMPLES: &str = "\
Examples:
  nightferry sync run                          request a run and return immediately
  nightferry sync run --wait                   follow it; exit code 5 unless everything was copied
  nightferry sync run --user ada@example.org   only this account's files
  nightferry sync run --file ID --file ID      only these files
  nightferry sync run --plan ID                exactly the items of a `sync plan`, or nothing

A worker must be running (`nightferry worker`): it starts a requested run within a second. Only one run can \
be active: a second request is rejected with exit code 4. Ctrl-C while waiting does not affect the run.";

/// Options of `sync run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Follow the run until it ends
    #[arg(long)]
    wait: bool,
    /// Only the files of this account
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
    /// Only this file; can be repeated
    #[arg(long, value_name = "FILE-ID")]
    file: Vec<FileId>,
    /// Only the files in this folder
    #[arg(long, value_name = "FOLDER-ID")]
    folder: Option<FolderId>,
    /// Execute exactly this plan; rejected, with a list of changes, if the plan is no longer valid
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["user", "file", "folder"])]
    plan: Option<PlanId>,
}

pub(super) async fn run(app: &App, context: &Context, args: RunArgs) -> Result<Exit, Failure> {
    let limits = scope(context, args.user.as_deref(), args.file, args.folder).await?;
    request(app, context, RunScope { plan_id: args.plan, ..limits }, args.wait).await
}

/// The scope of a run or plan according to the options.
pub(super) async fn scope(
    context: &Context,
    user: Option<&str>,
    files: Vec<FileId>,
    folder_id: Option<FolderId>,
) -> Result<RunScope, Failure> {
    let user_id = match user {
        Some(email) => Some(user::find(context, email).await?.id),
        None => None,
    };
    let file_ids = (!files.is_empty()).then_some(files);
    Ok(RunScope { user_id, folder_id, file_ids, ..RunScope::default() })
}

/// Requests a run on behalf of the operator, and optionally follows it.
pub(super) async fn request(
    app: &App,
    context: &Context,
    scope: RunScope,
    wait: bool,
) -> Result<Exit, Failure> {
    let new = NewRun { trigger: RunTrigger::Cli, requested_by: None, tick: None, scope };
    let run = run::request(context, new, &origin()).await.map_err(cannot("start a sync"))?;
    if wait {
        return wait::follow_to_end(app, context, run).await;
    }
    wait::announce(app, context, run).await
}
