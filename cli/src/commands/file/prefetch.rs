//! `nightferry file prefetch`: asks for local copies of files that were freed.

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
  nightferry file prefetch FILE-ID FILE-ID    bring copies back to the local store
  nightferry file why FILE-ID                 see whether one has come

A worker must be up; an idle one starts within a second, without a run. The copies are freed again by the rules, \
counted from when they came or were last downloaded.";

/// Options of `file prefetch`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct PrefetchArgs {
    /// The files' ids, as the API shows them
    #[arg(value_name = "FILE-ID", required = true)]
    files: Vec<FileId>,
}

pub(super) async fn run(app: &App, context: &Context, args: &PrefetchArgs) -> Result<Exit, Failure> {
    let mut outcomes = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let outcome = fetch::request_as(context, *file, None, &origin())
            .await
            .map_err(cannot(format!("bring back the file {file}")))?;
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
        Fetch::Queued => ("queued", "a worker brings a copy to the local store"),
        Fetch::Here => ("here", "has a copy in the local store"),
        Fetch::BeingFreed => ("being_freed", "is just being freed: ask again in a moment"),
        Fetch::NoSource => ("no_source", "has no verified copy in any other store"),
    }
}
