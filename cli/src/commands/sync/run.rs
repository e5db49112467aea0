//! `nightferry sync run`, `retry` and `cancel`: requests a run and optionally follows it, or cancels one.

use clap::Args;
use nightferry_api_types::run as api_types;
use nightferry_core::context::Context;
use nightferry_core::db::enums::{RunStatus, RunTrigger};
use nightferry_core::db::runs::{NewRun, Run, RunScope};
use nightferry_core::db::unsigned;
use nightferry_core::ids::{FileId, FolderId, PlanId, RunId};
use nightferry_core::tiering::run::{self, RunView};

use super::App;
use super::follow::{follow, worker_is_up};
use crate::commands::{origin, service, user};
use crate::errors::{Exit, Failure, cannot};
use crate::format;
use crate::output::document;

const RUN_EXAMPLES: &str = "\
Examples:
  nightferry sync run                          request a run and return immediately
  nightferry sync run --wait                   follow it; exit code 5 unless everything was copied
  nightferry sync run --user ada@example.org   only this account's files
  nightferry sync run --file ID --file ID      only these files
  nightferry sync run --plan ID                exactly the items of a `sync plan`, or nothing

A worker must be running (`nightferry worker`): it starts a requested run within a second. Only one run can \
be active: a second request is rejected with exit code 4. Ctrl-C while waiting does not affect the run.";

#[derive(Debug, Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    /// Follow the run until it ends
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    limits: LimitArgs,
    /// Execute exactly this plan; rejected, with a list of changes, if the plan is no longer valid
    #[arg(long, value_name = "PLAN", conflicts_with_all = ["user", "file", "folder"])]
    plan: Option<PlanId>,
}

// What a run or a plan is limited to. Not a doc comment: it would become the description of each command.
#[derive(Debug, Args)]
pub(crate) struct LimitArgs {
    /// Only the files of this account
    #[arg(long, value_name = "EMAIL")]
    user: Option<String>,
    /// Only this file; can be repeated
    #[arg(long, value_name = "FILE-ID")]
    file: Vec<FileId>,
    /// Only the files in this folder
    #[arg(long, value_name = "FOLDER-ID")]
    folder: Option<FolderId>,
}

pub(super) async fn run(app: &App, context: &Context, args: RunArgs) -> Result<Exit, Failure> {
    let limits = args.limits.scope(context).await?;
    request(app, context, RunScope { plan_id: args.plan, ..limits }, args.wait).await
}

impl LimitArgs {
    pub(super) async fn scope(self, context: &Context) -> Result<RunScope, Failure> {
        let user_id = match &self.user {
            Some(email) => Some(user::find(context, email).await?.id),
            None => None,
        };
        let file_ids = (!self.file.is_empty()).then_some(self.file);
        Ok(RunScope { user_id, folder_id: self.folder, file_ids, ..RunScope::default() })
    }
}

/// Requests a run on behalf of the operator, and optionally follows it.
async fn request(app: &App, context: &Context, scope: RunScope, wait: bool) -> Result<Exit, Failure> {
    // No worker runs with such stores: the run would wait forever.
    service::require_distinct(context, "Cannot start a sync").await?;
    let new = NewRun { trigger: RunTrigger::Cli, requested_by: None, tick: None, scope };
    let run = run::request(context, new, &origin()).await.map_err(cannot("start a sync"))?;
    if wait {
        return follow_to_end(app, context, run).await;
    }
    announce(app, context, run).await
}

const RETRY_EXAMPLES: &str = "\
Examples:
  nightferry sync show RUN         what failed, and why; fix the cause first
  nightferry sync retry --wait     then retry what failed, and sync what is new";

#[derive(Debug, Args)]
#[command(after_help = RETRY_EXAMPLES)]
pub(crate) struct RetryArgs {
    /// Follow the run until it ends
    #[arg(long)]
    wait: bool,
}

pub(super) async fn retry(app: &App, context: &Context, args: &RetryArgs) -> Result<Exit, Failure> {
    let scope = RunScope { retry_failed: true, ..RunScope::default() };
    request(app, context, scope, args.wait).await
}

const CANCEL_EXAMPLES: &str = "\
Examples:
  nightferry sync cancel          the active run
  nightferry sync cancel RUN      this run

Transfers in flight finish; finished copies are kept; everything else waits for the next run.";

#[derive(Debug, Args)]
#[command(after_help = CANCEL_EXAMPLES)]
pub(crate) struct CancelArgs {
    /// The run [default: the active one]
    #[arg(value_name = "RUN")]
    run: Option<RunId>,
}

pub(super) async fn cancel(app: &App, context: &Context, args: &CancelArgs) -> Result<Exit, Failure> {
    let id = match args.run {
        Some(id) => id,
        None => active(context).await?,
    };
    let run =
        run::cancel(context, id, None, &origin()).await.map_err(cannot(format!("cancel the run {id}")))?;
    app.output.result(&document!(run: api_types::Run::from(&run)), |_| cancelled_text(&run))?;
    if run.status.is_active() {
        app.output.note_command("To follow it", &format!("sync show {id} --wait"));
    }
    Ok(Exit::Ok)
}

async fn active(context: &Context) -> Result<RunId, Failure> {
    match run::active(context).await.map_err(cannot("look for the active run"))? {
        Some(run) => Ok(run.id),
        None => Err(Failure::new(Exit::NotFound, "not_found", "There is nothing to cancel")
            .because("no run is active")
            .advise_command("see past runs", "sync history")),
    }
}

fn cancelled_text(run: &Run) -> String {
    if run.status.is_active() {
        format!("Run {} is being cancelled: transfers in flight finish.", run.id)
    } else {
        format!("Run {} is {}.", run.id, run.status)
    }
}

/// Reports that a run was requested, and how to follow it.
async fn announce(app: &App, context: &Context, run: Run) -> Result<Exit, Failure> {
    let id = run.id;
    let document = document!(run: api_types::Run::from(&run));
    app.output.result(&document, |_| format!("Requested run {id} ({}).", format::run::scope(&run)))?;
    // The run has been requested and reported: later errors do not undo that.
    match worker_is_up(context).await {
        Ok(true) => {}
        Ok(false) => {
            app.output.warning_command("no worker is running, so the run waits. Start one", "worker");
        }
        Err(error) => app.output.warning(&format!("cannot determine whether a worker is running: {error}")),
    }
    app.output.note_command("To follow it", &format!("sync show {id} --wait"));
    Ok(Exit::Ok)
}

/// Follows a run until it ends and reports how it ended.
pub(super) async fn follow_to_end(app: &App, context: &Context, run: Run) -> Result<Exit, Failure> {
    let id = run.id;
    let Some(run) = follow(app, context, run).await? else {
        return Err(Failure::new(Exit::Interrupted, "interrupted", "Stopped waiting")
            .because(format!("Ctrl-C; the run {id} continues"))
            .advise_command("follow it again", format!("sync show {id} --wait"))
            .advise_command("or cancel it", format!("sync cancel {id}")));
    };
    let document = document!(run: api_types::Run::from(&run));
    let outcome = incomplete(&run);
    let view = RunView::of_row(run);
    app.output.result(&document, |look| format::run::details(&view, look))?;
    let Some(failure) = outcome else { return Ok(Exit::Ok) };
    app.output.problem(&failure);
    Ok(failure.exit)
}

/// Why a finished run is not a success; `None` if it is.
fn incomplete(run: &Run) -> Option<Failure> {
    let id = run.id;
    let what = match run.status {
        RunStatus::Queued | RunStatus::Running | RunStatus::Succeeded => return None,
        RunStatus::Cancelled => "was cancelled",
        RunStatus::Partial => "was only partly successful",
        RunStatus::Failed => "failed",
    };
    let failure = Failure::new(Exit::Partial, "run_incomplete", format!("The run {id} {what}"));
    if run.status == RunStatus::Cancelled {
        return Some(failure.advise_command("copy the rest", "sync run --wait"));
    }
    let failed = || format!("{} could not be copied", format::count(unsigned(run.files_failed), "file"));
    Some(
        failure
            .because(run.error.clone().unwrap_or_else(failed))
            .advise_command("list them with their reasons", format!("sync show {id}"))
            .advise_command("fix the cause, then retry", "sync retry --wait"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::run::tests::partial;

    #[test]
    fn only_a_run_that_copied_everything_is_a_success() {
        let exit = |status| incomplete(&Run { status, ..partial() }).map(|failure| failure.exit);
        assert_eq!(exit(RunStatus::Succeeded), None);
        for status in [RunStatus::Partial, RunStatus::Failed, RunStatus::Cancelled] {
            assert_eq!(exit(status), Some(Exit::Partial), "{status}");
        }
    }
}
