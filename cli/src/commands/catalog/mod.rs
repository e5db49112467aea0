//! `nightferry catalog`: snapshots of the catalogue, and rebuilding from them.

mod export;
mod list;
mod rebuild;
mod verify;

use clap::Subcommand;
use nightferry_core::catalog::{CatalogError, Counts, Refusal};
use nightferry_core::services::Services;

use super::App;
use crate::errors::{Exit, Failure, cannot};
use crate::format::count;

/// Subcommands of `catalog`.
#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// List the snapshots in the cloud store, newest first
    #[command(after_help = list::EXAMPLES)]
    List,
    /// Write a snapshot now
    #[command(after_help = export::EXAMPLES)]
    Export,
    /// Verify a snapshot, and that every copy it lists is in its store
    Verify(verify::VerifyArgs),
    /// Fill an empty database from a snapshot or from the objects alone
    Rebuild(rebuild::RebuildArgs),
}

pub(super) async fn run(app: &App, command: CatalogCommand) -> Result<Exit, Failure> {
    app.in_session(async |services: &Services| match command {
        CatalogCommand::List => list::run(app, &services.context).await,
        CatalogCommand::Export => export::run(app, &services.context).await,
        CatalogCommand::Verify(args) => verify::run(app, &services.context, &args).await,
        CatalogCommand::Rebuild(args) => rebuild::run(app, &services.accounts, args).await,
    })
    .await
}

/// The error for the failed operation `act`, with advice.
fn failed(act: &'static str, error: CatalogError) -> Failure {
    let error = match error {
        CatalogError::Other(error) => return cannot(act)(error),
        error => error,
    };
    let failure = |exit, kind| Failure::new(exit, kind, format!("Cannot {act}")).because(&error);
    match &error {
        CatalogError::Refused { why: Refusal::ForeignKey { .. }, .. } => {
            failure(Exit::Findings, "snapshot_refused")
                .advise(
                    "specify the key that signed it: `--set catalog.secret_key=…`, or the former \
            `auth.secret_key`",
                )
                .advise_command("without the key, rebuild from the objects", "catalog rebuild --from-objects")
        }
        CatalogError::Refused { why: Refusal::NewerSchema(_), .. } => {
            failure(Exit::Conflict, "snapshot_newer")
                .advise("use the version of Nightferry that wrote it, or a newer one")
        }
        CatalogError::Refused { .. } => failure(Exit::Findings, "snapshot_refused")
            .advise_command("list the other snapshots", "catalog list")
            .advise_command("verify one of them", "catalog verify KEY"),
        CatalogError::NoneValid { .. } => failure(Exit::Findings, "snapshot_refused")
            .advise("if the configured key has changed since: `--set catalog.secret_key=…`")
            .advise_command("or rebuild from the objects alone", "catalog rebuild --from-objects"),
        CatalogError::NoSuchSnapshot(_) => {
            failure(Exit::NotFound, "not_found").advise_command("list the snapshots", "catalog list")
        }
        CatalogError::NoSnapshot(_) => {
            failure(Exit::NotFound, "not_found").advise_command("write one", "catalog export").advise_command(
                "or, with an empty database, rebuild from the objects",
                "catalog rebuild --from-objects",
            )
        }
        CatalogError::NotEmpty(_) => failure(Exit::Conflict, "database_not_empty")
            .advise("specify an empty database: `createdb NAME`, then `--database-url postgres://…/NAME`")
            .advise_command("apply the migrations first", "--database-url URL migrate"),
        CatalogError::Busy => failure(Exit::Conflict, "conflict")
            .advise("wait until it has ended; the lease of a dead process expires after tiering.lease"),
        CatalogError::Interrupted => failure(Exit::Interrupted, "interrupted"),
        CatalogError::Trial | CatalogError::Other(_) => failure(Exit::Failed, "internal"),
    }
}

/// The row counts of a snapshot on one line: `2 users, 1,204 files, …`.
fn rows(rows: &Counts) -> String {
    let names = rows.iter().map(|(table, rows)| {
        let noun = <&str>::from(*table).replace('_', " ");
        count(*rows, noun.trim_end_matches('s'))
    });
    names.collect::<Vec<_>>().join(", ")
}
