//! `nightferry catalog`: the database's knowledge kept in the cloud store, and rebuilt from there.

mod export;
mod list;
mod rebuild;
mod verify;

use clap::Subcommand;
use nightferry_core::catalog::{CatalogError, Counts, Refusal};

use super::{App, diagnosed};
use crate::errors::{Exit, Failure, cannot};
use crate::format::count;

/// What to do with the catalogue.
#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// List the snapshots in the cloud store, newest first
    #[command(after_help = list::EXAMPLES)]
    List,
    /// Write a snapshot now
    #[command(after_help = export::EXAMPLES)]
    Export,
    /// Check a snapshot, and that every copy it names is in its store
    Verify(verify::VerifyArgs),
    /// Fill an empty database again, from a snapshot or from the objects alone
    Rebuild(rebuild::RebuildArgs),
}

pub(super) async fn run(app: &App, command: CatalogCommand) -> Result<Exit, Failure> {
    let session = app.session()?;
    let context = &session.services.context;
    let result = match command {
        CatalogCommand::List => list::run(app, context).await,
        CatalogCommand::Export => export::run(app, context).await,
        CatalogCommand::Verify(args) => verify::run(app, context, &args).await,
        CatalogCommand::Rebuild(args) => rebuild::run(app, &session.services.accounts, args).await,
    };
    diagnosed(context, result).await
}

/// Why `act` could not be done, and what to do about it.
fn failed(act: &'static str, error: CatalogError) -> Failure {
    let error = match error {
        CatalogError::Other(error) => return cannot(act)(error),
        error => error,
    };
    let failure = |exit, kind| Failure::new(exit, kind, format!("Cannot {act}")).because(&error);
    match &error {
        CatalogError::Refused { why: Refusal::ForeignKey { .. }, .. } => failure(
            Exit::Findings,
            "snapshot_refused",
        )
        .advise("give the key that signed it: `--set catalog.secret_key=…`, or `auth.secret_key` as it was")
        .advise_command("without it, rebuild from the objects", "catalog rebuild --from-objects"),
        CatalogError::Refused { why: Refusal::NewerSchema(_), .. } => {
            failure(Exit::Conflict, "snapshot_newer")
                .advise("use the version of Nightferry that wrote it, or a newer one")
        }
        CatalogError::Refused { .. } => failure(Exit::Findings, "snapshot_refused")
            .advise_command("see which others there are", "catalog list")
            .advise_command("check one of them", "catalog verify KEY"),
        CatalogError::NoneValid { .. } => failure(Exit::Findings, "snapshot_refused")
            .advise("when the configured key is another one than then: `--set catalog.secret_key=…`")
            .advise_command("or rebuild from the objects alone", "catalog rebuild --from-objects"),
        CatalogError::NoSuchSnapshot(_) => {
            failure(Exit::NotFound, "not_found").advise_command("see which there are", "catalog list")
        }
        CatalogError::NoSnapshot(_) => {
            failure(Exit::NotFound, "not_found").advise_command("write one", "catalog export").advise_command(
                "or, into an empty database, rebuild from the objects",
                "catalog rebuild --from-objects",
            )
        }
        CatalogError::NotEmpty(_) => failure(Exit::Conflict, "database_not_empty")
            .advise("name an empty database: `createdb NAME`, then `--database-url postgres://…/NAME`")
            .advise_command("bring it up to date first", "--database-url URL migrate"),
        CatalogError::Busy => failure(Exit::Conflict, "conflict")
            .advise("wait until it has ended; one that died is forgotten after tiering.lease"),
        CatalogError::Interrupted => failure(Exit::Interrupted, "interrupted"),
        CatalogError::Trial | CatalogError::Other(_) => failure(Exit::Failed, "internal"),
    }
}

/// Rows of a snapshot in a line: `2 users, 1,204 files, …`.
fn rows(rows: &Counts) -> String {
    let names = rows.iter().map(|(table, rows)| {
        let noun = table.as_str().replace('_', " ");
        count(*rows, noun.trim_end_matches('s'))
    });
    names.collect::<Vec<_>>().join(", ")
}
