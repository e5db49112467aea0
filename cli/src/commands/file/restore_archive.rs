//! `nightferry file restore-archive`: has archived copies made readable.

use clap::Args;
use nightferry_api_types::placement::ExplainedRestore;
use nightferry_core::context::Context;
use nightferry_core::db::restores::Restore;
use nightferry_core::ids::FileId;
use nightferry_core::tiering::archive::{self, Wish};

use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::output::{Look, document};

const EXAMPLES: &str = "\
Examples:
  nightferry file restore-archive FILE-ID    ask the cloud store to restore an archived copy
  nightferry file why FILE-ID                see how far it is

A worker must be up: it asks the store, and looks every tiering.archive_poll whether the copy is there. It can be read for \
tiering.archive_restore_days. Files that can be read at once are left alone.

Exit code 4 when a file has no verified copy left.";

/// Options of `file restore-archive`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct RestoreArchiveArgs {
    /// The files' ids, as the API shows them
    #[arg(value_name = "FILE-ID", required = true)]
    files: Vec<FileId>,
}

/// A restore in words.
pub(super) fn sentence(restore: &Restore, look: Look) -> String {
    use nightferry_core::db::enums::RestoreState;
    let store = &restore.store;
    match restore.state {
        RestoreState::Wanted => format!("is archived in {store}; a worker asks for it to be restored"),
        RestoreState::Restoring => format!(
            "is archived in {store}, which restores it since {}",
            look.zone.show_or_dash(restore.asked_at)
        ),
        RestoreState::Ready => match restore.expires_at {
            Some(at) => format!("can be read from {store} until {}", look.zone.show(at)),
            None => format!("can be read from {store}"),
        },
        RestoreState::Failed => format!(
            "is archived in {store}, and restoring it was given up: {}",
            restore.last_error.as_deref().unwrap_or("for an unknown reason")
        ),
    }
}

pub(super) async fn run(app: &App, context: &Context, args: &RestoreArchiveArgs) -> Result<Exit, Failure> {
    let mut wishes = Vec::with_capacity(args.files.len());
    for file in &args.files {
        let wish = archive::request(context, *file, None, None)
            .await
            .map_err(cannot(format!("have the file {file} restored")))?;
        wishes.push((*file, wish));
    }
    let files = wishes.iter().map(|(id, wish)| {
        let (outcome, restore) = match wish {
            Wish::Readable(_) => ("readable", None),
            Wish::NoCopy => ("no_copy", None),
            Wish::Restoring(restore) => (restore.state.as_str(), Some(ExplainedRestore::from(restore))),
        };
        document!(id: id, outcome: outcome, restore: restore)
    });
    let document = document!(files: files.collect::<Vec<_>>());
    app.output.result(&document, |look| {
        let lines = wishes.iter().map(|(id, wish)| match wish {
            Wish::Readable(store) => format!("{id}  can be read from {store} at once"),
            Wish::NoCopy => format!("{id}  has no verified copy left"),
            Wish::Restoring(restore) => format!("{id}  {}", sentence(restore, look)),
        });
        lines.collect::<Vec<_>>().join("\n")
    })?;
    let lost = wishes.iter().any(|(_, wish)| *wish == Wish::NoCopy);
    Ok(if lost { Exit::Conflict } else { Exit::Ok })
}
