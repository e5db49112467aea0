//! `nightferry file`: commands for single files.

use clap::{Args, Subcommand};
use nightferry_api_types::file::File;
use nightferry_api_types::placement::{ExplainedReplica, ExplainedRestore, NextStep, explained_file};
use nightferry_core::context::Context;
use nightferry_core::db::restores::Restore;
use nightferry_core::db::unsigned;
use nightferry_core::file::change;
use nightferry_core::ids::FileId;
use nightferry_core::services::Services;
use nightferry_core::store::StoreRole;
use nightferry_core::tiering::archive::{self, RestoreOutcome};
use nightferry_core::tiering::fetch::{self, Fetch};
use nightferry_core::tiering::placement::{self, Placement};

use super::App;
use crate::commands::origin;
use crate::errors::{Exit, Failure, cannot};
use crate::format::bytes;
use crate::format::table::{pairs, plain, table};
use crate::output::{TextStyle, document};

#[derive(Debug, Subcommand)]
pub(crate) enum FileCommand {
    /// Show where a file is stored, why, and what happens to it next
    #[command(after_help = WHY_EXAMPLES)]
    Why(FileArgs),
    /// Keep the local copies of a file, regardless of the eviction rules
    #[command(after_help = PIN_EXAMPLES)]
    Pin(FileArgs),
    /// Allow the local copies of a file to be evicted again
    #[command(after_help = PIN_EXAMPLES)]
    Unpin(FileArgs),
    /// Copy files back to the local store
    #[command(after_help = PREFETCH_EXAMPLES)]
    Prefetch(FilesArgs),
    /// Restore archived copies of files, which takes hours and costs money
    #[command(after_help = RESTORE_EXAMPLES)]
    RestoreArchive(FilesArgs),
}

#[derive(Debug, Args)]
pub(crate) struct FileArgs {
    /// The id of the file
    #[arg(value_name = "FILE-ID")]
    file: FileId,
}

#[derive(Debug, Args)]
pub(crate) struct FilesArgs {
    /// The ids of the files
    #[arg(value_name = "FILE-ID", required = true)]
    files: Vec<FileId>,
}

pub(super) async fn run(app: &App, services: &Services, command: FileCommand) -> Result<Exit, Failure> {
    let context = &services.context;
    match command {
        FileCommand::Why(args) => why(app, context, &args).await,
        FileCommand::Pin(args) => pin(app, context, &args, true).await,
        FileCommand::Unpin(args) => pin(app, context, &args, false).await,
        FileCommand::Prefetch(args) => prefetch(app, context, &args).await,
        FileCommand::RestoreArchive(args) => restore_archive(app, context, &args).await,
    }
}

const WHY_EXAMPLES: &str = "\
Examples:
  nightferry file why 0199f0a0-0000-7000-8000-000000000001
  nightferry --json file why FILE-ID | jq .next";

async fn why(app: &App, context: &Context, args: &FileArgs) -> Result<Exit, Failure> {
    let placement = placement::explain(context, args.file, None)
        .await
        .map_err(cannot(format!("explain the file {}", args.file)))?;
    let document = document!(
        file: explained_file(&placement.file),
        replicas: placement.replicas.iter().map(ExplainedReplica::from).collect::<Vec<_>>(),
        restores: placement.restores.iter().map(ExplainedRestore::from).collect::<Vec<_>>(),
        rule: &placement.rule,
        next: NextStep::from(&placement.next),
    );
    app.output.result(&document, |look| text(&placement, look))
}

fn text(placement: &Placement, look: TextStyle) -> String {
    let file = &placement.file;
    let primary = match file.synced_at {
        Some(at) => format!("{}, where it arrived {}", file.storage_location, look.zone.show(at)),
        None => file.storage_location.clone(),
    };
    let when = placement.next.at.map(|at| format!(" ({})", look.zone.show(at))).unwrap_or_default();
    let mut text = pairs(&[
        ("file", format!("{} ({})", plain(&file.filename), file.id)),
        ("owner", file.owner_id.to_string()),
        ("version", format!("{}, {}", file.current_version, bytes::human(unsigned(file.file_size)))),
        ("uploaded", look.zone.show(file.uploaded_at)),
        ("primary location", primary),
        ("rule", placement.rule.clone()),
        ("next", format!("{}{when}: {}", placement.next.action, placement.next.because)),
    ]);
    for restore in &placement.restores {
        text.extend(["\n\nIt ", &sentence(restore, look), "."]);
    }
    format!("{text}\n\n{}", replicas(placement, look))
}

fn replicas(placement: &Placement, look: TextStyle) -> String {
    table("STORE | STATE | VERIFIED | ENCRYPTED | > ATTEMPTS | LAST ERROR", &placement.replicas, |replica| {
        [
            replica.store.clone(),
            look.state(if replica.is_suspect() { "suspect" } else { replica.state.as_str() }),
            look.zone.show_or_dash(replica.verified_at),
            replica.key_id.clone().unwrap_or_else(|| "-".to_owned()),
            replica.attempts.to_string(),
            replica.last_error.as_deref().map_or_else(|| "-".to_owned(), plain),
        ]
    })
}

const PIN_EXAMPLES: &str = "\
Examples:
  nightferry file pin FILE-ID         keep the local copies of all its versions
  nightferry file prefetch FILE-ID    copy back a version that was evicted before
  nightferry file unpin FILE-ID       allow eviction according to the rules again

A pin prevents the eviction of local copies; it does not prefetch any.";

async fn pin(app: &App, context: &Context, args: &FileArgs, pinned: bool) -> Result<Exit, Failure> {
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
        let nowhere = format!("It currently has no copy in {}. To prefetch one", locals.join(" or "));
        app.output.note_command(&nowhere, &format!("file prefetch {}", args.file));
    }
    Ok(Exit::Ok)
}

const PREFETCH_EXAMPLES: &str = "\
Examples:
  nightferry file prefetch FILE-ID FILE-ID    copy files back to the local store
  nightferry file why FILE-ID                 show whether a copy has arrived

A worker must be running; an idle one starts within a second, without a run. The copies are evicted \
according to the rules; their retention starts at their arrival or their last download.";

async fn prefetch(app: &App, context: &Context, args: &FilesArgs) -> Result<Exit, Failure> {
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
    let queued = |fetch: Fetch| matches!(fetch, Fetch::Queued | Fetch::Present);
    Ok(if outcomes.iter().all(|(_, fetch)| queued(*fetch)) { Exit::Ok } else { Exit::Conflict })
}

/// An outcome in a word for programs and in a sentence for people.
const fn explained(fetch: Fetch) -> (&'static str, &'static str) {
    match fetch {
        Fetch::Queued => ("queued", "a worker is copying it to the local store"),
        Fetch::Present => ("present", "has a copy in the local store"),
        Fetch::BeingEvicted => ("being_evicted", "is being evicted now: try again in a moment"),
        Fetch::NoSource => ("no_source", "has no verified copy in any other store"),
    }
}

const RESTORE_EXAMPLES: &str = "\
Examples:
  nightferry file restore-archive FILE-ID    request the restore of an archived copy from the cloud store
  nightferry file why FILE-ID                show the state of the restore

A worker must be running: it sends the request, and polls the store every tiering.archive_poll. The \
restored copy is readable for tiering.archive_restore_days. Files that are readable now are unchanged.

Exit code 4 if a file has no verified copy left.";

/// A restore as text.
fn sentence(restore: &Restore, look: TextStyle) -> String {
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

async fn restore_archive(app: &App, context: &Context, args: &FilesArgs) -> Result<Exit, Failure> {
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
