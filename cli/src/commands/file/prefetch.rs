//! `nightferry file prefetch`: requests local copies of evicted files.

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::ids::FileId;
use nightferry_core::tiering::fetch::{self, Fetch};

use super::App;
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::output::document;

const EXAMPLES: &str = "\
Examples:
  nightferry file prefetch FILE-ID FILE-ID    copy files back to the local store
  nightferry file why FILE-ID                 show whether a copy has arrived

A worker must be running; an idle one starts within a second, without a run. The copies are evicted \
according to the rules; their retention starts at their arrival or their last download.";

/// Options of `file prefetch`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PrefetchArgs {
    /// The ids of the files
    #[arg(value_name = "FILE-ID", required = true)]
    files: Vec<FileId>,
}

pub(super) async fn run(app: &App, context: &Context, args: &PrefetchArgs) -> Result<Exit, Failure> {
    let mut outcomes = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let outcome = fetch::request(context, *file, None, &origin())
            .await
            .map_err(cannot(format!("prefetch the file {file}")))?;
        outcomes.push((*file, outcome));
    }
    let files = outcomes.iter().map(|(id, fetch)| document!(id: id, outcome: explained(*fetch).0));
    let document = document!(files: files.collect::<Vec<_>>());
    app.output.result(&document, |_| {
        let lines: Vec<String> =
            outcomes.iter().map(|(id, fetch)| format!("{id}  {}", explained(*fetch).1)).collect();
        lines.join("\n")
    })?;
    let queued = |fetch: Fetch| matches!(fetch, Fetch::Queued | Fetch::Here);
    Ok(if outcomes.iter().all(|(_, fetch)| queued(*fetch)) { Exit::Ok } else { Exit::Conflict })
}

/// An outcome in a word for programs and in a sentence for people.
const fn explained(fetch: Fetch) -> (&'static str, &'static str) {
    match fetch {
        Fetch::Queued => ("queued", "a worker is copying it to the local store"),
        Fetch::Here => ("here", "has a copy in the local store"),
        Fetch::BeingFreed => ("being_freed", "is being evicted now: try again in a moment"),
        Fetch::NoSource => ("no_source", "has no verified copy in any other store"),
    }
}
