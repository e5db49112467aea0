//! `nightferry migrate`: applies missing migrations, and reverts applied ones.

use std::pin::pin;

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::db::migrate as migrations;
use nightferry_core::db::migrate::{NameSearch, Others, Script};

use super::App;
use super::service::{stopped, unless_stopped};
use crate::errors::{Exit, Failure, cannot};
use crate::format;
use crate::output::document;
use crate::signals::StopRequests;

const EXAMPLES: &str = "\
Examples:
  nightferry migrate                     apply missing migrations; does nothing if there are none
  nightferry migrate --status            only list them
  nightferry migrate --revert 2          show what reverting the newest two would lose; changes nothing
  nightferry migrate --revert 2 --yes    revert them

Concurrent invocations wait for each other. The API and the workers may keep running while migrations are \
applied: no migration blocks requests for long. One that does not get its locks within a second lets requests \
pass and tries again, for up to ten minutes; then it fails and can be repeated.

To return to an older version: stop all API processes and workers, revert the migrations with the newer \
version, then start the older one. Nothing is reverted while a process is connected. If information would be \
lost, --force is required as well; restoring a backup made before the upgrade may be better then.

Exit code 4 if a process is connected, if --force is missing, or if the data does not permit the revert.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct MigrateArgs {
    /// Only list the missing migrations
    #[arg(long)]
    status: bool,
    /// Revert the newest N migrations; without --yes, only show them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..), conflicts_with = "status")]
    revert: Option<u16>,
    /// Revert them instead of showing them
    #[arg(long, requires = "revert")]
    yes: bool,
    /// Revert them even if information is lost
    #[arg(long, requires = "yes")]
    force: bool,
}

pub(super) async fn run(app: &App, args: &MigrateArgs) -> Result<Exit, Failure> {
    let session = app.session()?;
    let context = &session.services.context;
    if let Some(count) = args.revert {
        return revert(app, context, args, usize::from(count)).await;
    }
    if args.status {
        let pending = migrations::pending(&context.db).await.map_err(cannot("check the migrations"))?;
        let indexed =
            migrations::is_name_search_indexed(&context.db).await.map_err(cannot("check the indexes"))?;
        let document =
            document!(up_to_date: pending.is_empty(), pending: &pending, name_search_indexed: indexed);
        app.output.result(&document, |_| status_text(&pending, indexed))?;
        if !pending.is_empty() {
            app.output.note_command("Apply them", "migrate");
        }
        return Ok(Exit::Ok);
    }
    let applied = apply(context).await?;
    app.output.result(&document!(applied: &applied), |_| applied_text(&applied))
}

/// Applies missing migrations and returns their names. Builds the index for searches by a part of a name if it can.
pub(super) async fn apply(context: &Context) -> Result<Vec<String>, Failure> {
    let applied = migrations::apply(&context.db).await.map_err(cannot("migrate the database"))?;
    let act = "build the index for searches by a part of a name";
    if let NameSearch::Unindexed(reason) =
        migrations::ensure_name_search(&context.db).await.map_err(cannot(act))?
    {
        tracing::info!("searches by a part of a name read all names of an account: {reason}");
    }
    Ok(applied)
}

/// Reverts the newest migrations, or shows what it would revert.
async fn revert(app: &App, context: &Context, args: &MigrateArgs, count: usize) -> Result<Exit, Failure> {
    let act = "revert migrations";
    let newest = migrations::newest(&context.db, count).await.map_err(cannot(act))?;
    let names: Vec<&str> = newest.iter().map(|script| script.name).collect();
    let losses: Vec<String> = newest.iter().filter_map(|script| loss(script)).collect();
    if !args.yes {
        let document = document!(reverted: false, migrations: &names, losses: &losses);
        app.output.result(&document, |_| plan_text(&names, &losses))?;
        let force = if losses.is_empty() { "" } else { " --force" };
        app.output.note_command("Revert them", &format!("migrate --revert {count} --yes{force}"));
        return Ok(Exit::Ok);
    }
    if !losses.is_empty() && !args.force {
        return Err(Failure::new(Exit::Conflict, "information_lost", "Cannot revert the migrations")
            .because(format!("this would be lost:\n  {}", losses.join("\n  ")))
            .advise_command("lose it", format!("migrate --revert {count} --yes --force"))
            .advise("or restore a backup of the database made before the upgrade"));
    }
    migrations::revert(&context.db, &newest, Others::MustBeStopped).await.map_err(cannot(act))?;
    let document = document!(reverted: true, migrations: &names, losses: &losses);
    app.output.result(&document, |_| format!("{} reverted:\n  {}", counted(names.len()), names.join("\n  ")))
}

fn loss(script: &Script) -> Option<String> {
    script.loses().map(|what| format!("{}: {what}", script.name))
}

fn plan_text(names: &[&str], losses: &[String]) -> String {
    let list = format!("{} would be reverted:\n  {}", counted(names.len()), names.join("\n  "));
    if losses.is_empty() {
        return format!("{list}\nNothing would be lost.");
    }
    format!("{list}\nThis would be lost:\n  {}", losses.join("\n  "))
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
    let why = format!("the database lacks {}: {}", counted(pending.len()), pending.join(", "));
    Failure::new(Exit::Failed, "migrations_missing", what)
        .because(why)
        .advise_command("apply the migrations", "migrate")
}

fn counted(migrations: usize) -> String {
    format::count(u64::try_from(migrations).unwrap_or(u64::MAX), "migration")
}

fn status_text(pending: &[String], is_name_search_indexed: bool) -> String {
    if !pending.is_empty() {
        return format!("{} missing:\n  {}", counted(pending.len()), pending.join("\n  "));
    }
    let index = if is_name_search_indexed {
        ""
    } else {
        "\nSearches by a part of a name have no index: `nightferry migrate` builds it, or says why it cannot."
    };
    format!("The database is up to date.{index}")
}

fn applied_text(applied: &[String]) -> String {
    if applied.is_empty() {
        return "The database was already up to date.".to_owned();
    }
    format!("{} applied:\n  {}", counted(applied.len()), applied.join("\n  "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_named_with_its_migration() {
        let script = Script { name: "1_list", up: "", down: "-- Loses: the list\n", in_transaction: true };
        let losses: Vec<String> = loss(&script).into_iter().collect();
        assert_eq!(losses, ["1_list: the list"]);
        assert!(plan_text(&["1_list"], &losses).ends_with("This would be lost:\n  1_list: the list"));
        assert!(plan_text(&["1_list"], &[]).ends_with("Nothing would be lost."));
    }
}
