//! `nightferry store list`: the stores with their health, their capacity, what they hold, and which are being emptied.

use nightferry_core::context::Context;
use nightferry_core::tiering::relocate::rebalance;
use nightferry_core::tiering::stores::{self, StoreView};
use serde::Serialize;

use super::App;
use crate::documents::StoreDocument;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{Align, Table, plain};
use crate::format::{bytes, grouped};
use crate::output::Look;

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry store list
  nightferry --json store list | jq '.stores[] | select(.state == \"down\") | .name'

Health is what the running API servers and workers see; it is unknown while none is up. `nightferry store check` tries the
stores from here.";

#[derive(Serialize)]
struct Document {
    stores: Vec<StoreDocument>,
}

pub(super) async fn run(app: &App, context: &Context) -> Result<Exit, Failure> {
    let stores = stores::list(context).await.map_err(cannot("list the stores"))?;
    let document = Document { stores: stores.iter().map(StoreDocument::of).collect() };
    app.output.result(&document, |look| text(&stores, look))?;
    let rebalancing = rebalance::look(context).await.map_err(cannot("see whether stores are evened out"))?;
    if let Some(rebalancing) = rebalancing.filter(|rebalancing| !rebalancing.is_finished()) {
        app.output.note(&super::rebalance::progress(&rebalancing));
    }
    for store in &stores {
        let waits_for = store.drain.as_ref().and_then(|drain| drain.waits_for.as_deref());
        if let Some(waits_for) = waits_for {
            app.output.note(&format!("{} is being emptied and waits: {}", store.name, plain(waits_for)));
        }
        if let Some(health) = store.health.as_ref().filter(|health| !health.up) {
            let seen = format!("{} of {} processes see it down", health.down, health.observers);
            let error = plain(health.last_error.as_deref().unwrap_or("for no reason that is known"));
            app.output.note(&format!("{}: {seen}: {error}", store.name));
        }
    }
    Ok(Exit::Ok)
}

fn text(stores: &[StoreView], look: Look) -> String {
    let mut table = Table::new(&[
        ("STORE", Align::Left),
        ("ROLE", Align::Left),
        ("STATE", Align::Left),
        ("HEALTH", Align::Left),
        ("LATENCY", Align::Right),
        ("USED", Align::Right),
        ("CAPACITY", Align::Right),
        ("REPLICAS", Align::Left),
    ]);
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
