//! `nightferry store list`: the stores with their health, capacity, contents and drains.

use nightferry_api_types::store::{Store, StoreList};
use nightferry_core::context::Context;
use nightferry_core::tiering::relocate::rebalance;
use nightferry_core::tiering::stores::{self, StoreView};

use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{Table, plain};
use crate::format::{bytes, grouped};
use crate::output::TextStyle;

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry store list
  nightferry --json store list | jq '.stores[] | select(.state == \"down\") | .name'

Health is reported by the running API instances and workers; it is unknown if none is running. `nightferry \
store check` tests the stores from here.";

pub(super) async fn run(app: &App, context: &Context) -> Result<Exit, Failure> {
    let stores = stores::list(context).await.map_err(cannot("list the stores"))?;
    let shown: Vec<_> = stores.iter().map(Store::from).collect();
    app.output.result(&StoreList { stores: shown }, |look| text(&stores, look))?;
    let rebalancing = rebalance::look(context).await.map_err(cannot("check for a rebalancing"))?;
    if let Some(rebalancing) = rebalancing.filter(|rebalancing| !rebalancing.is_finished()) {
        app.output.note(&super::rebalance::progress(&rebalancing));
    }
    for store in &stores {
        let waits_for = store.drain.as_ref().and_then(|drain| drain.waits_for.as_deref());
        if let Some(waits_for) = waits_for {
            app.output.note(&format!("{} is being drained and waits: {}", store.name, plain(waits_for)));
        }
        if let Some(health) = store.health.as_ref().filter(|health| !health.up) {
            let seen = format!("down for {} of {} processes", health.down, health.observers);
            let error = plain(health.last_error.as_deref().unwrap_or("for an unknown reason"));
            app.output.note(&format!("{}: {seen}: {error}", store.name));
        }
    }
    Ok(Exit::Ok)
}

fn text(stores: &[StoreView], look: TextStyle) -> String {
    let mut table = Table::new("STORE | ROLE | STATE | HEALTH | > LATENCY | > USED | > CAPACITY | REPLICAS");
    for store in stores {
        let latency = store.health.as_ref().and_then(|health| health.latency_ms);
        let role = if store.is_main { format!("{}, main", store.role) } else { store.role.to_string() };
        table.row([
            store.name.clone(),
            role,
            look.state(store.state()),
            look.state(store.health_word()),
            latency.map_or_else(|| "-".to_owned(), |millis| format!("{millis} ms")),
            bytes::human(store.used()),
            store.capacity.map_or_else(|| "-".to_owned(), bytes::human),
            replicas(store),
        ]);
    }
    table.render()
}

/// `1,204 present, 3 queued`.
fn replicas(store: &StoreView) -> String {
    let states = store.states.iter();
    let states: Vec<String> = states
        .map(|row| format!("{} {}", grouped(u64::try_from(row.replicas).unwrap_or(0)), row.state))
        .collect();
    if states.is_empty() { "none".to_owned() } else { states.join(", ") }
}
