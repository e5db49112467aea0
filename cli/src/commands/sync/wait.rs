//! Messages about a run that was requested or followed.

use nightferry_api_types::run as api_types;
use nightferry_core::context::Context;
use nightferry_core::db::enums::RunStatus;
use nightferry_core::db::runs::Run;
use nightferry_core::tiering::run::RunView;

use super::App;
use super::follow::{Followed, follow, worker_is_up};
use crate::errors::{Exit, Failure};
use crate::format;
use crate::output::document;

/// Reports that a run was requested, and how to follow it.
pub(super) async fn announce(app: &App, context: &Context, run: Run) -> Result<Exit, Failure> {
    let id = run.id;
    let document = document!(run: api_types::Run::from(&run));
    app.output.result(&document, |_| format!("Requested run {id} ({}).", format::run::scope(&run)))?;
    // The run has been requested and reported: later errors do not undo that.
    match worker_is_up(context).await {
        Ok(true) => {}
        Ok(false) => {
            let command = app.output.command("worker");
            app.output.warning(&format!("no worker is running, so the run waits. Start one: {command}"));
        }
        Err(error) => app.output.warning(&format!("cannot determine whether a worker is running: {error}")),
    }
    app.output.note(&format!("To follow it: {}", app.output.command(&format!("sync show {id} --wait"))));
    Ok(Exit::Ok)
}

/// Follows a run until it ends and reports how it ended.
pub(super) async fn follow_to_end(app: &App, context: &Context, run: Run) -> Result<Exit, Failure> {
    let id = run.id;
    match follow(app, context, run).await? {
        Followed::Ended(run) => ended(app, run),
        Followed::Stopped => {
            let failure = Failure::new(Exit::Interrupted, "interrupted", "Stopped waiting")
                .because(format!("Ctrl-C; the run {id} continues"))
                .advise_command("follow it again", format!("sync show {id} --wait"))
                .advise_command("or cancel it", format!("sync cancel {id}"));
            Err(failure)
        }
    }
}

fn ended(app: &App, run: Run) -> Result<Exit, Failure> {
    let document = document!(run: api_types::Run::from(&run));
    let outcome = incomplete(&run);
    let view = RunView::of_row(run);
    app.output.result(&document, |look| format::run::details(&view, look))?;
    match outcome {
        None => Ok(Exit::Ok),
        Some(failure) => {
            app.output.problem(&failure);
            Ok(failure.exit)
        }
    }
}

/// Why a finished run is not a success; `None` if it is.
fn incomplete(run: &Run) -> Option<Failure> {
    let id = run.id;
    let failure = |what: String| Failure::new(Exit::Partial, "run_incomplete", what);
    let failure = match run.status {
        RunStatus::Queued | RunStatus::Running | RunStatus::Succeeded => return None,
        RunStatus::Cancelled => {
            return Some(
                failure(format!("The run {id} was cancelled"))
                    .advise_command("copy the rest", "sync run --wait"),
            );
        }
        RunStatus::Partial => failure(format!("The run {id} was only partly successful")),
        RunStatus::Failed => failure(format!("The run {id} failed")),
    };
    let failure = match (&run.error, u64::try_from(run.files_failed).unwrap_or(0)) {
        (Some(error), _) => failure.because(error),
        (None, failed) => failure.because(format!("{} could not be copied", format::count(failed, "file"))),
    };
    Some(
        failure
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
