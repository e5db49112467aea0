//! `nightferry sync run`: asks for a run, and follows it if told to.

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
  nightferry sync run                          ask for a run and come back at once
  nightferry sync run --wait                   watch it; exit code 5 unless all crossed
  nightferry sync run --user ada@example.org   only this account's files
  nightferry sync run --file ID --file ID      only these files
  nightferry sync run --plan ID                exactly what `sync plan` showed, or nothing

A worker must be up (`nightferry worker`): it starts an asked-for run within a second. There is one run at a time: while \
one is active, another is refused with exit code 4. Ctrl-C while waiting leaves the run alone.";

/// Options of `sync run`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RunArgs {
    /// Watch the run until it ends
    #[arg(long)]
    wait: bool,
    /// Only the files of this account
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
    /// Only this file (may be given several times)
    #[arg(long, value_name = "FILE-ID")]
    file: Vec<FileId>,
    /// Only the files in this folder
    #[arg(long, value_name = "FOLDER-ID")]
    folder: Option<FolderId>,
    /// Exactly what this plan says; refused, with what changed, when it does not hold any more
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["user", "file", "folder"])]
    plan: Option<PlanId>,
}

pub(super) async fn run(app: &App, context: &Context, args: RunArgs) -> Result<Exit, Failure> {
    let limits = scope(context, args.user.as_deref(), args.file, args.folder).await?;
    request(app, context, RunScope { plan_id: args.plan, ..limits }, args.wait).await
}

/// What the options limit a run or a plan to.
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

/// Asks for a run in the operator's name, and follows it if told to.
pub(super) async fn request(
    app: &App,
    context: &Context,
    scope: RunScope,
    wait: bool,
) -> Result<Exit, Failure> {
    let new = NewRun { trigger: RunTrigger::Cli, requested_by: None, tick: None, scope };
    let run = run::request(context, new, &origin()).await.map_err(cannot("start a sync"))?;
    if wait {
        return wait::to_the_end(app, context, run).await;
    }
    wait::announce(app, context, run).await
}
