//! `nightferry catalog`: snapshots of the catalogue, and rebuilding from them.

mod adopt;
mod rebuild;
mod verify;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use nightferry_api_types::catalog::{ListedSnapshot, written_snapshot};
use nightferry_core::catalog::{self, CatalogError, Counts, Refusal};
use nightferry_core::context::Context;
use nightferry_core::error::Error;
use nightferry_core::object::canary;
use nightferry_core::services::Services;

use super::App;
use crate::commands::watch::{Watch, stop_on_ctrl_c};
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::table;
use crate::format::time::{between, span};
use crate::format::{bytes, count};
use crate::output::{TextStyle, document};

#[derive(Debug, Subcommand)]
pub(crate) enum CatalogCommand {
    /// List the snapshots in the cloud store, newest first
    #[command(after_help = LIST_EXAMPLES)]
    List,
    /// Write a snapshot now
    #[command(after_help = EXPORT_EXAMPLES)]
    Export,
    /// Verify a snapshot, and that every copy it lists is in its store
    Verify(verify::VerifyArgs),
    /// Show objects that the database does not know, and bring them into it with --apply
    Adopt(adopt::AdoptArgs),
    /// Fill an empty database from a snapshot or from the objects alone
    Rebuild(rebuild::RebuildArgs),
}

pub(super) async fn run(app: &App, services: &Services, command: CatalogCommand) -> Result<Exit, Failure> {
    let Services { context, accounts, .. } = services;
    if !matches!(command, CatalogCommand::List) {
        canary::send_first(context).await;
    }
    match command {
        CatalogCommand::List => list(app, context).await,
        CatalogCommand::Export => export(app, context).await,
        CatalogCommand::Verify(args) => verify::run(app, context, &args).await,
        CatalogCommand::Adopt(args) => adopt::run(app, accounts, &args).await,
        CatalogCommand::Rebuild(args) => rebuild::run(app, accounts, args).await,
    }
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
            .advise_command("apply the migrations first", "--database-url URL migrate")
            .advise_command("or, to add only what this database lacks", "catalog adopt"),
        CatalogError::Busy | CatalogError::Adopting => failure(Exit::Conflict, "conflict")
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

const LIST_EXAMPLES: &str = "\
Examples:
  nightferry catalog list
  nightferry --json catalog list | jq -r '.snapshots[0].key'

The list does not show whether a snapshot is valid: use `catalog verify KEY`.";

async fn list(app: &App, context: &Context) -> Result<Exit, Failure> {
    let failed = || cannot("list the snapshots");
    let store = context.stores.cloud().map_err(failed())?;
    let listed = catalog::list(store).await.map_err(Error::from).map_err(failed())?;
    let snapshots: Vec<_> = listed.iter().map(ListedSnapshot::from).collect();
    let (name, now) = (store.name().as_str(), context.clock.now());
    app.output
        .result(&document!(store: name, snapshots: &snapshots), |look| text(name, &snapshots, now, look))
}

fn text(store: &str, snapshots: &[ListedSnapshot], now: DateTime<Utc>, look: TextStyle) -> String {
    if snapshots.is_empty() {
        return format!("There is no snapshot in store {store} yet.");
    }
    table("TAKEN | > AGE | > BYTES | KEY", snapshots, |snapshot| {
        [
            look.zone.show(snapshot.taken_at),
            span(between(snapshot.taken_at, now)),
            bytes::human(snapshot.bytes),
            snapshot.key.clone(),
        ]
    })
}

const EXPORT_EXAMPLES: &str = "\
Examples:
  nightferry catalog export

Workers write a snapshot after each run that changed something (catalog.after_runs). A snapshot is a \
consistent copy of the catalogue in the database: users, folders, files, versions, objects and the \
locations of their copies. It is compressed and signed, and the password hashes in it are encrypted. Older \
snapshots are deleted according to catalog.keep and catalog.keep_days.";

async fn export(app: &App, context: &Context) -> Result<Exit, Failure> {
    let stop = stop_on_ctrl_c();
    let mut watch = Watch::new(&app.output);
    let outcome = catalog::export(context, |so_far| watch.show(|| rows(so_far)), &stop).await;
    watch.clear();
    let snapshot = outcome.map_err(|error| failed("write a snapshot", error))?;
    app.output.result(&document!(snapshot: written_snapshot(&snapshot)), |_| {
        format!(
            "Wrote {} to store {}: {}, in {}.",
            snapshot.key,
            snapshot.store,
            rows(&snapshot.rows),
            bytes::human(snapshot.bytes)
        )
    })
}
