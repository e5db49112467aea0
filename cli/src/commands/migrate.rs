//! `nightferry migrate`: brings the database up to date with this version of the program.

use std::pin::pin;

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::db::migrate as migrations;
use serde::Serialize;

use super::App;
use super::service::{stopped, unless_stopped};
use crate::errors::{Exit, Failure, cannot};
use crate::format;
use crate::signals::StopRequests;

const EXAMPLES: &str = "\
Examples:
  nightferry migrate             apply what is missing; does nothing when nothing is
  nightferry migrate --status    only say what is missing

Two of these at once wait for each other. The API and the workers may go on running meanwhile.";

/// Options of `migrate`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct MigrateArgs {
    /// Change nothing, only say which migrations are missing
    #[arg(long)]
    status: bool,
}

#[derive(Serialize)]
struct StatusDocument {
    up_to_date: bool,
    pending: Vec<String>,
}

#[derive(Serialize)]
struct AppliedDocument {
    applied: Vec<String>,
}

pub(super) async fn run(app: &App, args: &MigrateArgs) -> Result<Exit, Failure> {
    let session = app.session()?;
    if args.status {
        let pending = migrations::pending(&session.services.context.db)
            .await
            .map_err(cannot("look at the migrations"))?;
        let document = StatusDocument { up_to_date: pending.is_empty(), pending };
        app.output.result(&document, |_| status_text(&document.pending))?;
        if !document.pending.is_empty() {
            app.output.note(&format!("Apply them: {}", app.output.command("migrate")));
        }
        return Ok(Exit::Ok);
    }
    let document = AppliedDocument { applied: apply(&session.services.context).await? };
    app.output.result(&document, |_| applied_text(&document.applied))?;
    Ok(Exit::Ok)
}

/// Applies what is missing; the names of what was applied.
pub(super) async fn apply(context: &Context) -> Result<Vec<String>, Failure> {
    let failed = || cannot("migrate the database");
    let pending = migrations::pending(&context.db).await.map_err(failed())?;
    let versions = migrations::apply(&context.db).await.map_err(failed())?;
    Ok(versions.into_iter().map(|version| name_of(version, &pending)).collect())
}

/// `2026-11-21-000001_accounts` of `20261121000001`, or the version itself when another process was faster.
fn name_of(version: String, names: &[String]) -> String {
    let has_version =
        |name: &&String| name.split('_').next().is_some_and(|digits| digits.replace('-', "") == version);
    names.iter().find(has_version).cloned().unwrap_or(version)
}

/// Refuses to work on a database that lacks migrations, unless they are to be applied now. A request to stop ends the
/// waiting for another process that migrates, but only the second one breaks off what was begun here.
pub(super) async fn require_current(
    app: &App,
    context: &Context,
    apply: bool,
    requests: &mut StopRequests,
) -> Result<(), Failure> {
    let looking = async { migrations::pending(&context.db).await.map_err(cannot("look at the migrations")) };
    let pending = unless_stopped(requests, looking).await?;
    if pending.is_empty() {
        return Ok(());
    }
    if !apply {
        return Err(missing("Cannot start", &pending));
    }
    let mut applying = pin!(self::apply(context));
    let applied = tokio::select! {
        applied = &mut applying => applied?,
        () = requests.next() => {
            unless_stopped(requests, applying).await?;
            return Err(stopped());
        }
    };
    if !applied.is_empty() {
        app.output.note(&applied_text(&applied));
    }
    Ok(())
}

/// The database lacks migrations.
pub(super) fn missing(what: &str, pending: &[String]) -> Failure {
    let why = format!("the database lacks {}: {}", count(pending), pending.join(", "));
    Failure::new(Exit::Failed, "migrations_missing", what)
        .because(why)
        .advise_command("bring it up to date", "migrate")
}

fn count(migrations: &[String]) -> String {
    format::count(u64::try_from(migrations.len()).unwrap_or(u64::MAX), "migration")
}

fn status_text(pending: &[String]) -> String {
    if pending.is_empty() {
        return "The database is up to date.".to_owned();
    }
    format!("{} missing:\n  {}", count(pending), pending.join("\n  "))
}

fn applied_text(applied: &[String]) -> String {
    if applied.is_empty() {
        return "The database was up to date already.".to_owned();
    }
    format!("{} applied:\n  {}", count(applied), applied.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_shown_by_their_names() {
        let names = ["2026-11-21-000001_accounts".to_owned(), "2026-11-21-000002_files".to_owned()];
        assert_eq!(name_of("20261121000002".to_owned(), &names), "2026-11-21-000002_files");
        assert_eq!(name_of("20261121000003".to_owned(), &names), "20261121000003");
    }
}
