//! `nightferry file pin` and `unpin`: whether the local copies of a file may be evicted.

use clap::Args;
use nightferry_api_types::file::File;
use nightferry_core::context::Context;
use nightferry_core::file::change;
use nightferry_core::ids::FileId;
use nightferry_core::store::StoreRole;

use super::App;
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::plain;
use crate::output::document;

pub(super) const EXAMPLES: &str = "\
Examples:
  nightferry file pin FILE-ID         keep the local copies of all its versions
  nightferry file prefetch FILE-ID    copy back a version that was evicted before
  nightferry file unpin FILE-ID       allow eviction according to the rules again

A pin prevents the eviction of local copies; it does not prefetch any.";

/// Options of `file pin` and `file unpin`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PinArgs {
    /// The id of the file
    #[arg(value_name = "FILE-ID")]
    file: FileId,
}

pub(super) async fn run(app: &App, context: &Context, args: &PinArgs, pinned: bool) -> Result<Exit, Failure> {
    let act = if pinned { "pin" } else { "unpin" };
    let file = change::pin(context, args.file, pinned, &origin())
        .await
        .map_err(cannot(format!("{act} the file {}", args.file)))?;
    let locals = context.stores.names_with(StoreRole::Local);
    let shown = File::new(&file, &context.config.server.base_url());
    app.output.result(&document!(file: shown), |_| {
        let name = plain(&file.row.filename);
        if pinned {
            format!("{name} is pinned: its local copies are kept.")
        } else {
            format!("{name} is not pinned: its local copies are evicted according to the rules.")
        }
    })?;
    if pinned && !file.locations.iter().any(|store| locals.contains(&store.as_str())) {
        app.output.note(&format!(
            "It currently has no copy in {}. To prefetch one: {}",
            locals.join(" or "),
            app.output.command(&format!("file prefetch {}", args.file))
        ));
    }
    Ok(Exit::Ok)
}
