//! `nightferry file prefetch`: asks for local copies of files that were freed.

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::ids::FileId;
use nightferry_core::tiering::fetch::{self, Fetch};
use serde::Serialize;

use super::App;
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};

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

#[derive(Serialize)]
struct Document {
    files: Vec<FileDocument>,
}

#[derive(Serialize)]
struct FileDocument {
    id: String,
    outcome: &'static str,
}

pub(super) async fn run(app: &App, context: &Context, args: &PrefetchArgs) -> Result<Exit, Failure> {
    let mut outcomes = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let outcome = fetch::request_as(context, *file, None, &origin())
            .await
            .map_err(cannot(format!("bring back the file {file}")))?;
        outcomes.push((*file, outcome));
    }
    let files = outcomes.iter().map(|(id, fetch)| FileDocument { id: id.to_string(), outcome: word(*fetch) });
    let document = Document { files: files.collect() };
    app.output.result(&document, |_| {
        let lines: Vec<String> =
            outcomes.iter().map(|(id, fetch)| format!("{id}  {}", sentence(*fetch))).collect();
        lines.join("\n")
    })?;
    let queued = |fetch: Fetch| matches!(fetch, Fetch::Queued | Fetch::Here);
    Ok(if outcomes.iter().all(|(_, fetch)| queued(*fetch)) { Exit::Ok } else { Exit::Conflict })
}

const fn word(fetch: Fetch) -> &'static str {
    match fetch {
        Fetch::Queued => "queued",
        Fetch::Here => "here",
        Fetch::BeingFreed => "being_freed",
        Fetch::NoSource => "no_source",
    }
}

const fn sentence(fetch: Fetch) -> &'static str {
    match fetch {
        Fetch::Queued => "a worker brings a copy to the local store",
        Fetch::Here => "has a copy in the local store",
        Fetch::BeingFreed => "is just being freed: ask again in a moment",
        Fetch::NoSource => "has no verified copy in any other store",
    }
}
