//! `nightferry migrate`: applies missing migrations.

use std::pin::pin;

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::db::migrate as migrations;

use super::App;
use super::service::{stopped, unless_stopped};
use crate::errors::{Exit, Failure, cannot};
use crate::format;
use crate::output::document;
use crate::signals::StopRequests;

const EXAMPLES: &str = "\
Examples:
  nightferry migrate             apply missing migrations; does nothing if there are none
  nightferry migrate --status    only list them

Concurrent invocations wait for each other. The API and the workers may keep running.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MigrateArgs {
    /// Only list the missing migrations
    #[arg(long)]
    status: bool,
}

pub(super) async fn run(app: &App, args: &MigrateArgs) -> Result<Exit, Failure> {
    let session = app.session()?;
    if args.status {
        let pending = migrations::pending(&session.services.context.db)
            .await
            .map_err(cannot("check the migrations"))?;
        let document = document!(up_to_date: pending.is_empty(), pending: &pending);
        app.output.result(&document, |_| status_text(&pending))?;
        if !pending.is_empty() {
            app.output.note_command("Apply them", "migrate");
        }
        return Ok(Exit::Ok);
    }
    let applied = apply(&session.services.context).await?;
    app.output.result(&document!(applied: &applied), |_| applied_text(&applied))
}

/// Applies missing migrations and returns their names.
pub(super) async fn apply(context: &Context) -> Result<Vec<String>, Failure> {
    let failed = || cannot("migrate the database");
    let pending = migrations::pending(&context.db).await.map_err(failed())?;
    let versions = migrations::apply(&context.db).await.map_err(failed())?;
    Ok(versions.into_iter().map(|version| name_of(version, &pending)).collect())
}

/// `2026-11-21-000001_accounts` for `20261121000001`, or the version itself if another process applied it first.
fn name_of(version: String, names: &[String]) -> String {
    let has_version =
        |name: &&String| name.split('_').next().is_some_and(|digits| digits.replace('-', "") == version);
    names.iter().find(has_version).cloned().unwrap_or(version)
}

/// Returns an error if the database lacks migrations, unless they are to be applied now. The first request to stop ends
/// the wait for another process that is migrating; only the second one interrupts migrations started here.
pub(super) async fn require_current(
    app: &App,
    context: &Context,
    apply: bool,
    requests: &mut StopRequests,
) -> Result<(), Failure> {
    let looking = async { migrations::pending(&context.db).await.map_err(cannot("check the migrations")) };
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

pub(super) fn missing(what: &str, pending: &[String]) -> Failure {
    let why = format!("the database lacks {}: {}", count(pending), pending.join(", "));
    Failure::new(Exit::Failed, "migrations_missing", what)
        .because(why)
        .advise_command("apply the migrations", "migrate")
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
        return "The database was already up to date.".to_owned();
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
