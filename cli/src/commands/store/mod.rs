//! `nightferry store`: the S3 stores.

mod check;
mod probe;

use clap::Subcommand;
use nightferry_core::context::Context;
use nightferry_core::store::Store;

use super::App;
use crate::errors::{Exit, Failure};

/// What to do with the stores.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// Try every store: reachable, bucket, and write, read and delete of a small object
    Check(check::CheckArgs),
}

pub(super) async fn run(app: &App, command: StoreCommand) -> Result<Exit, Failure> {
    let session = app.session()?;
    let StoreCommand::Check(args) = command;
    check::run(app, &session.context, &args).await
}

/// The store of this name, or every one.
pub(super) fn chosen(context: &Context, name: Option<&str>) -> Result<Vec<Store>, Failure> {
    let Some(name) = name else { return Ok(context.stores.all().cloned().collect()) };
    if let Some(store) = context.stores.get(name) {
        return Ok(vec![store.clone()]);
    }
    let known: Vec<&str> = context.stores.all().map(|store| store.name().as_str()).collect();
    Err(Failure::new(Exit::NotFound, "not_found", format!("There is no store {name}"))
        .because(format!("the configured stores are {}", known.join(", ")))
        .advise_command("check all of them", "store check"))
}
