//! `nightferry store`: the S3 stores.

mod check;
mod drain;
mod list;
mod probe;
mod rebalance;
mod undrain;

use clap::Subcommand;
use nightferry_core::context::Context;
use nightferry_core::store::Store;

use super::{App, diagnosed};
use crate::errors::{Exit, Failure};

/// What to do with the stores.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// List the stores: health, capacity, what each holds, and which are being emptied
    #[command(after_help = list::EXAMPLES)]
    List,
    /// Try every store: reachable, bucket, and write, read and delete of a small object
    Check(check::CheckArgs),
    /// Empty a store: copy everything elsewhere, prove it there, then delete it here
    Drain(drain::DrainArgs),
    /// Let a store be used again that is being emptied, or is empty
    Undrain(undrain::UndrainArgs),
    /// Move files between the local stores until all are as full
    Rebalance(rebalance::RebalanceArgs),
}

pub(super) async fn run(app: &App, command: StoreCommand) -> Result<Exit, Failure> {
    let session = app.session()?;
    let context = &session.services.context;
    let done = match command {
        StoreCommand::List => list::run(app, context).await,
        StoreCommand::Check(args) => return check::run(app, context, &args).await,
        StoreCommand::Drain(args) => drain::run(app, context, &args).await,
        StoreCommand::Undrain(args) => undrain::run(app, context, &args).await,
        StoreCommand::Rebalance(args) => rebalance::run(app, context, &args).await,
    };
    diagnosed(context, done).await
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
