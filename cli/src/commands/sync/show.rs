//! `nightferry sync show`: one run and its failures.

use clap::Args;
use nightferry_api_types::run::{Failure, Run};
use nightferry_core::context::Context;
use nightferry_core::db::run_failures::RunFailure;
use nightferry_core::ids::RunId;
use nightferry_core::tiering::run::{self, RunView};

use super::{App, wait};
use crate::errors::{self, Exit, cannot};
use crate::format;
use crate::output::{TextStyle, document};

const EXAMPLES: &str = "\
Examples:
  nightferry sync show 0199f0a0-0000-7000-8000-000000000001
  nightferry sync show RUN --wait     follow an active run until it ends
  nightferry --json sync show RUN | jq -r '.failures[] | [.filename, .error] | @tsv'";

/// Options of `sync show`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct ShowArgs {
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

pub(super) async fn run(app: &App, context: &Context, args: &ShowArgs) -> Result<Exit, errors::Failure> {
    let id = args.run;
    let failed = || cannot(format!("show the run {id}"));
    let view = run::find(context, id).await.map_err(failed())?;
    if args.wait {
        return wait::follow_to_end(app, context, view.run).await;
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
    if failures.is_empty() { details } else { format!("{details}\n\n{}", format::run::failures(failures)) }
}

fn advise(app: &App, view: &RunView, more_failures: bool) {
    let run = &view.run;
    if more_failures {
        let command = app.output.command(&format!("sync show {} --failures 10000", run.id));
        app.output.note(&format!("There are more failures: {command}"));
    }
    if run.status.is_active() {
        let command = app.output.command(&format!("sync show {} --wait", run.id));
        app.output.note(&format!("To follow it: {command}"));
    } else if run.files_failed > 0 {
        let command = app.output.command("sync retry --wait");
        app.output.note(&format!("Fix the cause, then retry the failed copies: {command}"));
    }
}
