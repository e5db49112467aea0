//! `nightferry file restore-archive`: requests the restore of archived copies.

use clap::Args;
use nightferry_api_types::placement::ExplainedRestore;
use nightferry_core::context::Context;
use nightferry_core::db::restores::Restore;
use nightferry_core::ids::FileId;
use nightferry_core::tiering::archive::{self, RestoreOutcome};

use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::output::{TextStyle, document};

const EXAMPLES: &str = "\
Examples:
  nightferry file restore-archive FILE-ID    request the restore of an archived copy from the cloud store
  nightferry file why FILE-ID                show the state of the restore

A worker must be running: it sends the request, and polls the store every tiering.archive_poll. The \
restored copy is readable for tiering.archive_restore_days. Files that are readable now are unchanged.

Exit code 4 if a file has no verified copy left.";

/// Options of `file restore-archive`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArchiveArgs {
    /// The ids of the files
    #[arg(value_name = "FILE-ID", required = true)]
    files: Vec<FileId>,
}

/// A restore as text.
pub(super) fn sentence(restore: &Restore, look: TextStyle) -> String {
    use nightferry_core::db::enums::RestoreState;
    let store = &restore.store;
    match restore.state {
        RestoreState::Wanted => format!("is archived in {store}; a worker will request its restore"),
        RestoreState::Restoring => format!(
            "is archived in {store}, which has been restoring it since {}",
            look.zone.show_or_dash(restore.asked_at)
        ),
        RestoreState::Ready => match restore.expires_at {
            Some(at) => format!("is readable from {store} until {}", look.zone.show(at)),
            None => format!("is readable from {store}"),
        },
        RestoreState::Failed => format!(
            "is archived in {store}, and its restore failed: {}",
            restore.last_error.as_deref().unwrap_or("for an unknown reason")
        ),
    }
}

pub(super) async fn run(app: &App, context: &Context, args: &RestoreArchiveArgs) -> Result<Exit, Failure> {
    let mut outcomes = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let outcome = archive::request(context, *file, None, None)
            .await
            .map_err(cannot(format!("restore the file {file}")))?;
        outcomes.push((*file, outcome));
    }
    let files = outcomes.iter().map(|(id, outcome)| {
        let (outcome, restore) = match outcome {
            RestoreOutcome::Readable(_) => ("readable", None),
            RestoreOutcome::NoCopy => ("no_copy", None),
            RestoreOutcome::Restoring(restore) => {
                (restore.state.as_str(), Some(ExplainedRestore::from(restore)))
            }
        };
        document!(id: id, outcome: outcome, restore: restore)
    });
    let document = document!(files: files.collect::<Vec<_>>());
    app.output.result(&document, |look| {
        let lines = outcomes.iter().map(|(id, outcome)| match outcome {
            RestoreOutcome::Readable(store) => format!("{id}  is readable from {store} now"),
            RestoreOutcome::NoCopy => format!("{id}  has no verified copy left"),
            RestoreOutcome::Restoring(restore) => format!("{id}  {}", sentence(restore, look)),
        });
        lines.collect::<Vec<_>>().join("\n")
    })?;
    let lost = outcomes.iter().any(|(_, outcome)| *outcome == RestoreOutcome::NoCopy);
    Ok(if lost { Exit::Conflict } else { Exit::Ok })
}
