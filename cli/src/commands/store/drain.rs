//! `nightferry store drain`: empties a store, and waits for the end if asked to.

use std::time::Duration;

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::db::unsigned;
use nightferry_core::tiering::relocate::drain::{self, Draining};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::App;
use crate::commands::origin;
use crate::commands::sync::worker_is_up;
use crate::commands::watch::{Watch, stop_on_ctrl_c};
use crate::documents::DrainDocument;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::plain;
use crate::format::{bytes, count};

/// Between two looks: each counts what is left.
const LOOK_EVERY: Duration = Duration::from_secs(2);

const EXAMPLES: &str = "\
Examples:
  nightferry store drain minio            begin, and come back at once
  nightferry store drain minio --wait     until nothing is left
  nightferry store undrain minio          take it back

Every replica goes to another store of the same role, or, where there is none, to where the policy puts it. It is proved
there before it is deleted here, so that files stay readable all the time, pinned ones too. Nothing new is written to the
store. It goes on when everything is restarted; asked for again, it tries again what was given up.

Exit code 5 when waiting ended because somebody took it back.";

/// Options of `store drain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct DrainArgs {
    /// The store
    #[arg(value_name = "STORE")]
    store: String,
    /// Wait until nothing is left in it
    #[arg(long)]
    wait: bool,
}

#[derive(Serialize)]
struct Document {
    drain: DrainDocument,
}

pub(super) async fn run(app: &App, context: &Context, args: &DrainArgs) -> Result<Exit, Failure> {
    let store = args.store.as_str();
    let draining = drain::begin(context, store, None, &origin())
        .await
        .map_err(cannot(format!("empty the store {store}")))?;
    if !worker_is_up(context).await.map_err(cannot("look for workers"))? {
        let command = app.output.command("worker");
        app.output.warning(&format!("no worker is up, so nothing moves yet. Start one: {command}"));
    }
    if !args.wait {
        app.output.result(&Document { drain: DrainDocument::of(&draining) }, |_| text(&draining))?;
        if !draining.is_finished() {
            app.output.note(&format!("See how far it is: {}", app.output.command("store list")));
        }
        return Ok(Exit::Ok);
    }
    let ended = wait(app, context, draining).await?;
    app.output.result(&Document { drain: DrainDocument::of(&ended) }, |_| text(&ended))?;
    Ok(Exit::Ok)
}

/// Looks until nothing is left, or until Ctrl-C.
async fn wait(app: &App, context: &Context, mut draining: Draining) -> Result<Draining, Failure> {
    let store = draining.drain.store.clone();
    let (mut watch, stop): (Watch, CancellationToken) = (Watch::new(&app.output), stop_on_ctrl_c());
    while !draining.is_finished() {
        watch.show(|| text(&draining));
        tokio::select! {
            () = stop.cancelled() => {
                watch.clear();
                return Err(Failure::new(Exit::Interrupted, "interrupted", "Stopped waiting")
                    .because(format!("Ctrl-C; emptying {store} goes on"))
                    .advise_command("watch it again", format!("store drain {store} --wait"))
                    .advise_command("or take it back", format!("store undrain {store}")));
            }
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        draining = match drain::look(context, &store).await {
            Ok(Some(now)) => now,
            Ok(None) => {
                watch.clear();
                return Err(Failure::new(
                    Exit::Partial,
                    "drain_cancelled",
                    format!("{store} was not emptied"),
                )
                .because("somebody took it back")
                .advise_command("ask for it again", format!("store drain {store} --wait")));
            }
            Err(error) => {
                app.output.detail(&format!("the database is away: {error}"));
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
        return format!("{store} is empty: it can be taken out of the configuration.");
    }
    let left = unsigned(draining.left.replicas);
    let done = unsigned(draining.drain.replicas_total).saturating_sub(left);
    let text = format!(
        "{store} is being emptied: {} gone, {} left ({}).",
        count(done, "replica"),
        left,
        bytes::human(unsigned(draining.left.bytes)),
    );
    match &draining.drain.waits_for {
        Some(waits_for) => format!("{text} It waits: {}", plain(waits_for)),
        None => text,
    }
}
