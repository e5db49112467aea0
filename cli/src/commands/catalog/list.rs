//! `nightferry catalog list`: lists the snapshots.

use chrono::{DateTime, Utc};
use nightferry_api_types::catalog::ListedSnapshot;
use nightferry_core::catalog;
use nightferry_core::context::Context;
use nightferry_core::error::Error;

use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::format::bytes;
use crate::format::table::Table;
use crate::format::time::{between, span};
use crate::output::{TextStyle, document};

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry catalog list
  nightferry --json catalog list | jq -r '.snapshots[0].key'

The list does not show whether a snapshot is valid: use `catalog verify KEY`.";

pub(super) async fn run(app: &App, context: &Context) -> Result<Exit, Failure> {
    let failed = || cannot("list the snapshots");
    let store = context.stores.cloud().map_err(failed())?;
    let listed = catalog::list(store).await.map_err(Error::from).map_err(failed())?;
    let snapshots: Vec<_> = listed.iter().map(ListedSnapshot::from).collect();
    let (name, now) = (store.name().as_str(), context.clock.now());
    app.output
        .result(&document!(store: name, snapshots: &snapshots), |look| text(name, &snapshots, now, look))?;
    Ok(Exit::Ok)
}

fn text(store: &str, snapshots: &[ListedSnapshot], now: DateTime<Utc>, look: TextStyle) -> String {
    if snapshots.is_empty() {
        return format!("There is no snapshot in store {store} yet.");
    }
    let mut table = Table::new("TAKEN | > AGE | > BYTES | KEY");
    for snapshot in snapshots {
        table.row([
            look.zone.show(snapshot.taken_at),
            span(between(snapshot.taken_at, now)),
            bytes::human(snapshot.bytes),
            snapshot.key.clone(),
        ]);
    }
    table.render()
}
