//! `nightferry sync history` and `show`: runs, newest first; one run and its failures.

use clap::Args;
use nightferry_api_types::run::{Failure, Run};
use nightferry_core::context::Context;
use nightferry_core::db::run_failures::RunFailure;
use nightferry_core::ids::RunId;
use nightferry_core::tiering::run::{self, RunView};

use super::App;
use super::run::follow_to_end;
use crate::errors::{Exit, cannot};
use crate::output::{TextStyle, document};
use crate::{errors, format};

const HISTORY_EXAMPLES: &str = "\
Examples:
  nightferry sync history
  nightferry sync history --limit 5
  nightferry --json sync history | jq '.runs[] | select(.files_failed > 0)'";

#[derive(Debug, Args)]
#[command(after_help = HISTORY_EXAMPLES)]
pub(crate) struct HistoryArgs {
    /// Maximum number of runs
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Only runs older than this one
    #[arg(long, value_name = "RUN")]
    before: Option<RunId>,
}

pub(super) async fn history(
    app: &App,
    context: &Context,
    args: &HistoryArgs,
) -> Result<Exit, errors::Failure> {
    let (runs, more) =
        run::page(context, args.before, i64::from(args.limit)).await.map_err(cannot("list the runs"))?;
    let shown: Vec<_> = runs.iter().map(Run::from).collect();
    app.output.result(&document!(runs: shown, more: more), |look| format::run::list(&runs, look))?;
    match runs.last() {
        Some(last) if more => {
            let rest = format!("sync history --limit {} --before {}", args.limit, last.run.id);
            app.output.note_command("There are more", &rest);
        }
        None => {
            app.output.note_command("There are no runs yet. Start one", "sync run --wait");
        }
        _ => {}
    }
    Ok(Exit::Ok)
}

const SHOW_EXAMPLES: &str = "\
Examples:
  nightferry sync show 0199f0a0-0000-7000-8000-000000000001
  nightferry sync show RUN --wait     follow an active run until it ends
  nightferry --json sync show RUN | jq -r '.failures[] | [.filename, .error] | @tsv'";

#[derive(Debug, Args)]
#[command(after_help = SHOW_EXAMPLES)]
pub(crate) struct ShowArgs {
    /// The id of the run, as printed by `sync run` and `sync history`
    #[arg(value_name = "RUN")]
    run: RunId,
    /// Follow the run until it ends
    #[arg(long)]
    wait: bool,
    /// Maximum number of failures to print
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(0..=10_000))]
    failures: u16,
}

pub(super) async fn show(app: &App, context: &Context, args: &ShowArgs) -> Result<Exit, errors::Failure> {
    let id = args.run;
    let failed = || cannot(format!("show the run {id}"));
    let view = run::find(context, id).await.map_err(failed())?;
    if args.wait {
        return follow_to_end(app, context, view.run).await;
    }
    let (failures, more_failures) =
        run::failures(context, id, None, i64::from(args.failures)).await.map_err(failed())?;
    let document = document!(
        run: Run::from(&view),
        failures: failures.iter().map(Failure::from).collect::<Vec<_>>(),
        more_failures: more_failures,
    );
    app.output.result(&document, |look| text(&view, &failures, look))?;
    advise(app, &view, more_failures);
    Ok(Exit::Ok)
}

fn text(view: &RunView, failures: &[RunFailure], look: TextStyle) -> String {
    let details = format::run::details(view, look);
    if failures.is_empty() {
        details
    } else {
        format!("{details}\n\n{}", format::run::failures(failures, look))
    }
}

fn advise(app: &App, view: &RunView, more_failures: bool) {
    let run = &view.run;
    if more_failures {
        app.output.note_command("There are more failures", &format!("sync show {} --failures 10000", run.id));
    }
    if run.status.is_active() {
        app.output.note_command("To follow it", &format!("sync show {} --wait", run.id));
    } else if run.files_failed > 0 {
        app.output.note_command("Later runs retry the failed copies. To retry them now", "sync retry --wait");
    }
}
