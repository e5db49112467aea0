//! `nightferry catalog export`: writes a snapshot now.

use nightferry_core::catalog;
use nightferry_core::context::Context;
use serde::Serialize;

use super::{App, failed, rows};
use crate::commands::watch::{Watch, stop_on_ctrl_c};
use crate::documents::SnapshotDocument;
use crate::errors::{Exit, Failure};
use crate::format::bytes;

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry catalog export

Workers do this after each run that changed something (catalog.after_runs). The snapshot is one moment of the database: \
users, folders, files, versions, objects and where their copies are, compressed, signed, the passwords' hashes sealed. \
Older ones are deleted as catalog.keep and catalog.keep_days say.";

#[derive(Serialize)]
struct Document {
    snapshot: SnapshotDocument,
}

pub(super) async fn run(app: &App, context: &Context) -> Result<Exit, Failure> {
    let stop = stop_on_ctrl_c();
    let mut watch = Watch::new(&app.output);
    let outcome = catalog::export(context, |so_far| watch.show(|| rows(so_far)), &stop).await;
    watch.clear();
    let snapshot = outcome.map_err(|error| failed("write a snapshot", error))?;
    let document = Document { snapshot: SnapshotDocument::of(&snapshot) };
    app.output.result(&document, |_| {
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
