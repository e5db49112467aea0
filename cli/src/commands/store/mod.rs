//! `nightferry store`: the S3 stores.

mod accept;
mod check;
mod drain;
mod probe;
mod rebalance;

use clap::Subcommand;
use nightferry_api_types::store::{self as api_types, StoreList};
use nightferry_core::context::Context;
use nightferry_core::services::Services;
use nightferry_core::store::Store;
use nightferry_core::tiering::stores::{self, StoreView};

use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{plain, table};
use crate::format::{bytes, grouped};
use crate::output::TextStyle;

#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// List the stores: health, capacity, contents, drains
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Test each store: reachable, bucket, and write, read and delete of a small object
    Check(check::CheckArgs),
    /// Accept the bucket of a store whose identity has changed
    Accept(accept::AcceptArgs),
    /// Drain a store: copy everything to other stores, verify it there, then delete it here
    Drain(drain::DrainArgs),
    /// Return a drained store to use, or stop a drain
    Undrain(drain::UndrainArgs),
    /// Move files between the local stores until they are evenly filled
    Rebalance(rebalance::RebalanceArgs),
}

pub(super) async fn run(app: &App, services: &Services, command: StoreCommand) -> Result<Exit, Failure> {
    let context = &services.context;
    match command {
        StoreCommand::List => list(app, context).await,
        StoreCommand::Check(args) => check::run(app, context, &args).await,
        StoreCommand::Accept(args) => accept::run(app, context, &args).await,
        StoreCommand::Drain(args) => drain::drain(app, context, &args).await,
        StoreCommand::Undrain(args) => drain::undrain(app, context, &args).await,
        StoreCommand::Rebalance(args) => rebalance::run(app, context, &args).await,
    }
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

const LIST_EXAMPLES: &str = "\
Examples:
  nightferry store list
  nightferry --json store list | jq '.stores[] | select(.state == \"down\") | .name'

Health is reported by the running API instances and workers; it is unknown if none is running. `nightferry \
store check` tests the stores from here.";

async fn list(app: &App, context: &Context) -> Result<Exit, Failure> {
    let stores = stores::list(context).await.map_err(cannot("list the stores"))?;
    let shown: Vec<_> = stores.iter().map(api_types::Store::from).collect();
    app.output.result(&StoreList { stores: shown }, |look| text(&stores, look))?;
    let rebalancing = nightferry_core::tiering::relocate::rebalance::look(context)
        .await
        .map_err(cannot("check for a rebalancing"))?;
    if let Some(rebalancing) = rebalancing.filter(|rebalancing| !rebalancing.is_finished()) {
        app.output.note(&rebalance::progress(&rebalancing));
    }
    for store in &stores {
        let waits_for = store.drain.as_ref().and_then(|drain| drain.waits_for.as_deref());
        if let Some(waits_for) = waits_for {
            app.output.note(&format!("{} is being drained and waits: {}", store.name, plain(waits_for)));
        }
        let Some(health) = &store.health else { continue };
        let error = health.last_error.as_deref();
        if !health.up {
            let seen = format!("down for {} of {} processes", health.down, health.observers);
            let error = plain(error.unwrap_or("for an unknown reason"));
            app.output.note(&format!("{}: {seen}: {error}", store.name));
        } else if let Some(error) = error {
            // It has failed recently, is paused, or may not be the recorded one.
            app.output.note(&format!("{}: {}", store.name, plain(error)));
        }
    }
    Ok(Exit::Ok)
}

fn text(stores: &[StoreView], look: TextStyle) -> String {
    table("STORE | ROLE | STATE | HEALTH | > LATENCY | > USED | > CAPACITY | REPLICAS", stores, |store| {
        let latency = store.health.as_ref().and_then(|health| health.latency_ms);
        let role = if store.is_main { format!("{}, main", store.role) } else { store.role.to_string() };
        [
            store.name.clone(),
            role,
            look.state(store.state()),
            look.state(store.health_word()),
            latency.map_or_else(|| "-".to_owned(), |millis| format!("{millis} ms")),
            bytes::human(store.used()),
            store.capacity.map_or_else(|| "-".to_owned(), bytes::human),
            replicas(store),
        ]
    })
}

/// `1,204 present, 3 queued, 2 lost (1 suspect)`.
fn replicas(store: &StoreView) -> String {
    let states = store.states.iter();
    let states: Vec<String> = states
        .map(|row| {
            let number = |number: i64| grouped(u64::try_from(number).unwrap_or(0));
            let suspects =
                if row.suspects > 0 { format!(" ({} suspect)", number(row.suspects)) } else { String::new() };
            format!("{} {}{suspects}", number(row.replicas), row.state)
        })
        .collect();
    if states.is_empty() { "none".to_owned() } else { states.join(", ") }
}
