//! `nightferry store drain`: drains a store, and optionally waits for the end.

use std::time::Duration;

use clap::Args;
use nightferry_api_types::store::Drain;
use nightferry_core::context::Context;
use nightferry_core::db::unsigned;
use nightferry_core::tiering::relocate::drain::{self, Draining};
use tokio_util::sync::CancellationToken;

use super::App;
use crate::commands::origin;
use crate::commands::sync::worker_is_up;
use crate::commands::watch::{Watch, stop_on_ctrl_c};
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::plain;
use crate::format::{bytes, count};
use crate::output::document;

/// Polling interval; each poll counts what is left.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  nightferry store drain minio            start, and return immediately
  nightferry store drain minio --wait     wait until the store is empty
  nightferry store undrain minio          stop the drain

Every replica is copied to another store of the same role or, if there is none, to the stores selected by \
the policy. It is verified there before it is deleted here: files stay readable throughout, and pinned \
files are moved too. Nothing new is written to the store. A drain continues after restarts; repeating the \
command retries failed copies.

Exit code 5 if the drain was stopped while waiting.";

/// Options of `store drain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DrainArgs {
    /// The store
    #[arg(value_name = "STORE")]
    store: String,
    /// Wait until the store is empty
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(app: &App, context: &Context, args: &DrainArgs) -> Result<Exit, Failure> {
    let store = args.store.as_str();
    let draining = drain::begin(context, store, None, &origin())
        .await
        .map_err(cannot(format!("drain the store {store}")))?;
    if !worker_is_up(context).await.map_err(cannot("check for workers"))? {
        let command = app.output.command("worker");
        app.output.warning(&format!("no worker is running, so nothing is moved yet. Start one: {command}"));
    }
    let draining = if args.wait { wait(app, context, draining).await? } else { draining };
    app.output.result(&document!(drain: Drain::from(&draining)), |_| text(&draining))?;
    if !draining.is_finished() {
        app.output.note(&format!("To see the progress: {}", app.output.command("store list")));
    }
    Ok(Exit::Ok)
}

/// Polls until the store is empty, or until Ctrl-C.
async fn wait(app: &App, context: &Context, mut draining: Draining) -> Result<Draining, Failure> {
    let store = draining.drain.store.clone();
    let (mut watch, stop): (Watch, CancellationToken) = (Watch::new(&app.output), stop_on_ctrl_c());
    while !draining.is_finished() {
        watch.show(|| text(&draining));
        tokio::select! {
            () = stop.cancelled() => {
                watch.clear();
                return Err(Failure::new(Exit::Interrupted, "interrupted", "Stopped waiting")
                    .because(format!("Ctrl-C; the drain of {store} continues"))
                    .advise_command("follow it again", format!("store drain {store} --wait"))
                    .advise_command("or cancel it", format!("store undrain {store}")));
            }
            () = tokio::time::sleep(POLL_INTERVAL) => {}
        }
        draining = match drain::look(context, &store).await {
            Ok(Some(now)) => now,
            Ok(None) => {
                watch.clear();
                return Err(Failure::new(
                    Exit::Partial,
                    "drain_cancelled",
                    format!("{store} was not drained"),
                )
                .because("the drain was stopped")
                .advise_command("start it again", format!("store drain {store} --wait")));
            }
            Err(error) => {
                app.output.detail(&format!("the database is unavailable: {error}"));
                draining
            }
        };
    }
    watch.clear();
    Ok(draining)
}

fn text(draining: &Draining) -> String {
    let store = &draining.drain.store;
    if draining.is_finished() {
        return format!("{store} is empty: it can be removed from the configuration.");
    }
    let left = unsigned(draining.left.replicas);
    let done = unsigned(draining.drain.replicas_total).saturating_sub(left);
    let text = format!(
        "{store} is being drained: {} removed, {} left ({}).",
        count(done, "replica"),
        left,
        bytes::human(unsigned(draining.left.bytes)),
    );
    match &draining.drain.waits_for {
        Some(waits_for) => format!("{text} Waiting: {}", plain(waits_for)),
        None => text,
    }
}
