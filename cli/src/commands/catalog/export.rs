//! `nightferry catalog export`: writes a snapshot now.

use nightferry_api_types::catalog::WrittenSnapshot;
use nightferry_core::catalog;
use nightferry_core::context::Context;

use super::{App, failed, rows};
use crate::commands::watch::{Watch, stop_on_ctrl_c};
use crate::errors::{Exit, Failure};
use crate::format::bytes;
use crate::output::document;

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry catalog export

Workers write a snapshot after each run that changed something (catalog.after_runs). A snapshot is a \
consistent copy of the catalogue in the database: users, folders, files, versions, objects and the \
locations of their copies. It is compressed and signed, and the password hashes in it are encrypted. Older \
snapshots are deleted according to catalog.keep and catalog.keep_days.";

pub(super) async fn run(app: &App, context: &Context) -> Result<Exit, Failure> {
    let stop = stop_on_ctrl_c();
    let mut watch = Watch::new(&app.output);
    let outcome = catalog::export(context, |so_far| watch.show(|| rows(so_far)), &stop).await;
    watch.clear();
    let snapshot = outcome.map_err(|error| failed("write a snapshot", error))?;
    app.output.result(&document!(snapshot: WrittenSnapshot::from(&snapshot)), |_| {
        format!(
            "Wrote {} to store {}: {}, in {}.",
            snapshot.key,
            snapshot.store,
            rows(&snapshot.rows),
            bytes::human(snapshot.bytes)
        )
    })?;
    Ok(Exit::Ok)
}
