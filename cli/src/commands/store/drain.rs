//! `nightferry store drain` and `undrain`: drains a store and optionally waits for the end, or returns it to use.

use clap::Args;
use nightferry_api_types::store::Drain;
use nightferry_core::context::Context;
use nightferry_core::db::unsigned;
use nightferry_core::tiering::relocate::drain::{self, Draining};

use super::App;
use crate::commands::sync::worker_is_up;
use crate::commands::watch::wait_until_finished;
use crate::commands::{origin, service};
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::plain;
use crate::format::{bytes, count};
use crate::output::document;

const DRAIN_EXAMPLES: &str = "\
Examples:
  nightferry store drain minio            start, and return immediately
  nightferry store drain minio --wait     wait until the store is empty
  nightferry store undrain minio          stop the drain

Every replica is copied to another store of the same role or, if there is none, to the stores selected by \
the policy. It is verified there before it is deleted here: files stay readable throughout, and pinned \
files are moved too. Nothing new is written to the store. A drain continues after restarts; repeating the \
command retries failed copies.

Exit code 5 if the drain was stopped while waiting.";

#[derive(Debug, Args)]
#[command(after_help = DRAIN_EXAMPLES)]
pub(crate) struct DrainArgs {
    /// The store
    #[arg(value_name = "STORE")]
    store: String,
    /// Wait until the store is empty
    #[arg(long)]
    wait: bool,
}

pub(super) async fn drain(app: &App, context: &Context, args: &DrainArgs) -> Result<Exit, Failure> {
    let store = args.store.as_str();
    service::require_distinct(context, "Cannot start a drain").await?;
    let draining = drain::begin(context, store, None, &origin())
        .await
        .map_err(cannot(format!("drain the store {store}")))?;
    warn_without_worker(app, context).await?;
    let draining = if args.wait { wait(app, context, draining).await? } else { draining };
    app.output.result(&document!(drain: Drain::from(&draining)), |_| text(&draining))?;
    if !draining.is_finished() {
        app.output.note_command("To see the progress", "store list");
    }
    Ok(Exit::Ok)
}

async fn wait(app: &App, context: &Context, draining: Draining) -> Result<Draining, Failure> {
    let store = draining.drain.store.clone();
    let look = async || {
        Ok(drain::look(context, &store).await?.map(Some).ok_or_else(|| {
            Failure::new(Exit::Partial, "drain_cancelled", format!("{store} was not drained"))
                .because("the drain was stopped")
                .advise_command("start it again", format!("store drain {store} --wait"))
        }))
    };
    let interrupted = |failure: Failure| {
        failure
            .because(format!("Ctrl-C; the drain of {store} continues"))
            .advise_command("follow it again", format!("store drain {store} --wait"))
            .advise_command("or stop it", format!("store undrain {store}"))
    };
    wait_until_finished(app, draining, Draining::is_finished, text, look, interrupted).await
}

pub(super) async fn warn_without_worker(app: &App, context: &Context) -> Result<(), Failure> {
    if !worker_is_up(context).await.map_err(cannot("check for workers"))? {
        app.output.warning_command("no worker is running, so nothing is moved yet. Start one", "worker");
    }
    Ok(())
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

const UNDRAIN_EXAMPLES: &str = "\
Examples:
  nightferry store undrain minio

Moved files stay where they are; all others stay in this store. From now on the store is written to again.";

#[derive(Debug, Args)]
#[command(after_help = UNDRAIN_EXAMPLES)]
pub(crate) struct UndrainArgs {
    /// The store
    #[arg(value_name = "STORE")]
    store: String,
}

pub(super) async fn undrain(app: &App, context: &Context, args: &UndrainArgs) -> Result<Exit, Failure> {
    let store = args.store.as_str();
    let was_draining = drain::cancel(context, store, None, &origin())
        .await
        .map_err(cannot(format!("return the store {store} to use")))?;
    app.output.result(&document!(store: store, was_draining: was_draining), |_| {
        if was_draining {
            format!("{store} is in use again.")
        } else {
            format!("{store} was not being drained.")
        }
    })
}
