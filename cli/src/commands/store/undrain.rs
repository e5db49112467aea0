//! `nightferry store undrain`: returns a store to use.

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::tiering::relocate::drain;

use super::App;
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry store undrain minio

Moved files stay where they are; all others stay in this store. From now on the store is written to again.";

/// Options of `store undrain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UndrainArgs {
    /// The store
    #[arg(value_name = "STORE")]
    store: String,
}

pub(super) async fn run(app: &App, context: &Context, args: &UndrainArgs) -> Result<Exit, Failure> {
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
    })?;
    Ok(Exit::Ok)
}
