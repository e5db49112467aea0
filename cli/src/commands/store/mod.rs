//! `nightferry store`: the S3 stores.

mod check;
mod drain;
mod list;
mod probe;
mod rebalance;
mod undrain;

use clap::Subcommand;
use nightferry_core::context::Context;
use nightferry_core::services::Services;
use nightferry_core::store::Store;

use super::App;
use crate::errors::{Exit, Failure};

/// Subcommands of `store`.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// List the stores: health, capacity, contents, drains
    #[command(after_help = list::EXAMPLES)]
    List,
    /// Test each store: reachable, bucket, and write, read and delete of a small object
    Check(check::CheckArgs),
    /// Drain a store: copy everything to other stores, verify it there, then delete it here
    Drain(drain::DrainArgs),
    /// Return a drained store to use, or stop a drain
    Undrain(undrain::UndrainArgs),
    /// Move files between the local stores until they are evenly filled
    Rebalance(rebalance::RebalanceArgs),
}

pub(super) async fn run(app: &App, command: StoreCommand) -> Result<Exit, Failure> {
    app.in_session(async |services: &Services| match command {
        StoreCommand::List => list::run(app, &services.context).await,
        StoreCommand::Check(args) => check::run(app, &services.context, &args).await,
        StoreCommand::Drain(args) => drain::run(app, &services.context, &args).await,
        StoreCommand::Undrain(args) => undrain::run(app, &services.context, &args).await,
        StoreCommand::Rebalance(args) => rebalance::run(app, &services.context, &args).await,
    })
    .await
}

/// The store with this name, or all stores.
pub(super) fn chosen(context: &Context, name: Option<&str>) -> Result<Vec<Store>, Failure> {
    let Some(name) = name else { return Ok(context.stores.all().cloned().collect()) };
    if let Some(store) = context.stores.get(name) {
        return Ok(vec![store.clone()]);
    }
    let known: Vec<&str> = context.stores.all().map(|store| store.name().as_str()).collect();
    Err(Failure::new(Exit::NotFound, "not_found", format!("There is no store {name}"))
        .because(format!("the configured stores are {}", known.join(", ")))
        .advise_command("check all stores", "store check"))
}
