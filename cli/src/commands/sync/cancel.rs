//! `nightferry sync cancel`: cancels a run.

use clap::Args;
use nightferry_api_types::run as api_types;
use nightferry_core::context::Context;
use nightferry_core::db::runs::Run;
use nightferry_core::ids::RunId;
use nightferry_core::tiering::run;

use super::App;
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry sync cancel          the active run
  nightferry sync cancel RUN      this run

Transfers in flight finish; finished copies are kept; everything else waits for the next run.";

/// Options of `sync cancel`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CancelArgs {
    /// The run [default: the active one]
    #[arg(value_name = "RUN")]
    run: Option<RunId>,
}

pub(super) async fn run(app: &App, context: &Context, args: &CancelArgs) -> Result<Exit, Failure> {
    let id = match args.run {
        Some(id) => id,
        None => active(context).await?,
    };
    let run =
        run::cancel(context, id, None, &origin()).await.map_err(cannot(format!("cancel the run {id}")))?;
    app.output.result(&document!(run: api_types::Run::from(&run)), |_| text(&run))?;
    if run.status.is_active() {
        let command = app.output.command(&format!("sync show {id} --wait"));
        app.output.note(&format!("To follow it: {command}"));
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

fn text(run: &Run) -> String {
    if run.status.is_active() {
        format!("Run {} is being cancelled: transfers in flight finish.", run.id)
    } else {
        format!("Run {} is {}.", run.id, run.status)
    }
}
