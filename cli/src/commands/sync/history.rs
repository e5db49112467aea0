//! `nightferry sync history`: runs, newest first.

use clap::Args;
use nightferry_api_types::run::Run;
use nightferry_core::context::Context;
use nightferry_core::ids::RunId;
use nightferry_core::tiering::run;

use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::format;
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry sync history
  nightferry sync history --limit 5
  nightferry --json sync history | jq '.runs[] | select(.files_failed > 0)'";

/// Options of `sync history`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct HistoryArgs {
    /// Maximum number of runs
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// Only runs older than this one
    #[arg(long, value_name = "RUN")]
    before: Option<RunId>,
}

pub(super) async fn run(app: &App, context: &Context, args: &HistoryArgs) -> Result<Exit, Failure> {
    let (runs, more) =
        run::page(context, args.before, i64::from(args.limit)).await.map_err(cannot("list the runs"))?;
    let shown: Vec<_> = runs.iter().map(Run::from).collect();
    app.output.result(&document!(runs: shown, more: more), |look| format::run::table(&runs, look))?;
    match runs.last() {
        Some(last) if more => {
            let rest = format!("sync history --limit {} --before {}", args.limit, last.run.id);
            app.output.note(&format!("There are more: {}", app.output.command(&rest)));
        }
        None => {
            let command = app.output.command("sync run --wait");
            app.output.note(&format!("There are no runs yet. Start one: {command}"));
        }
        _ => {}
    }
    Ok(Exit::Ok)
}
