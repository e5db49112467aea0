//! `nightferry store undrain`: lets a store be used again.

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::tiering::relocate::drain;
use serde::Serialize;

use super::App;
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};

const EXAMPLES: &str = "\
Examples:
  nightferry store undrain minio

What has moved stays where it is; what only waits to move stays too. From now on the store is written to again.";

/// Options of `store undrain`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct UndrainArgs {
    /// The store
    #[arg(value_name = "STORE")]
    store: String,
}

#[derive(Serialize)]
struct Document<'a> {
    store: &'a str,
    was_draining: bool,
}

pub(super) async fn run(app: &App, context: &Context, args: &UndrainArgs) -> Result<Exit, Failure> {
    let store = args.store.as_str();
    let was_draining = drain::cancel(context, store, None, &origin())
        .await
        .map_err(cannot(format!("let the store {store} be used again")))?;
    app.output.result(&Document { store, was_draining }, |_| {
        if was_draining {
            format!("{store} is used again.")
        } else {
            format!("{store} was not being emptied.")
        }
    })?;
    Ok(Exit::Ok)
}
