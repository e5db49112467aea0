//! `nightferry catalog list`: which snapshots there are.

use chrono::{DateTime, Utc};
use nightferry_core::catalog;
use nightferry_core::context::Context;
use nightferry_core::error::Error;
use serde::Serialize;

use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::format::bytes;
use crate::format::table::{Align, Table};
use crate::format::time::{between, span};
use crate::output::Look;

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry catalog list
  nightferry --json catalog list | jq -r '.snapshots[0].key'

Whether one can be believed shows only when it is read: `catalog verify KEY`.";

#[derive(Serialize)]
struct Document {
    store: String,
    snapshots: Vec<SnapshotDocument>,
}

#[derive(Serialize)]
struct SnapshotDocument {
    key: String,
    taken_at: DateTime<Utc>,
    bytes: u64,
}

pub(super) async fn run(app: &App, context: &Context) -> Result<Exit, Failure> {
    let failed = || cannot("list the snapshots");
    let store = context.stores.cloud().map_err(failed())?;
    let listed = catalog::list(store).await.map_err(Error::from).map_err(failed())?;
    let snapshots = listed
        .into_iter()
        .map(|snapshot| SnapshotDocument {
            key: snapshot.key.to_string(),
            taken_at: snapshot.taken_at,
            bytes: snapshot.bytes,
        })
        .collect();
    let document = Document { store: store.name().to_string(), snapshots };
    let now = context.clock.now();
    app.output.result(&document, |look| text(&document, now, look))?;
    Ok(Exit::Ok)
}

fn text(document: &Document, now: DateTime<Utc>, look: Look) -> String {
    if document.snapshots.is_empty() {
        return format!("There is no snapshot in store {} yet.", document.store);
    }
    let mut table = Table::new(&[
        ("TAKEN", Align::Left),
        ("AGE", Align::Right),
        ("BYTES", Align::Right),
        ("KEY", Align::Left),
    ]);
    for snapshot in &document.snapshots {
        table.row([
            look.zone.show(snapshot.taken_at),
            span(between(snapshot.taken_at, now)),
            bytes::human(snapshot.bytes),
            snapshot.key.clone(),
        ]);
    }
    table.render()
}
