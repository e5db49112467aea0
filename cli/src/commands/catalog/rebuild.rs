//! `nightferry catalog rebuild`: fills an empty database.

use std::fmt::Write as _;

use clap::Args;
use nightferry_api_types::catalog::rebuilt_catalog;
use nightferry_core::auth::Accounts;
use nightferry_core::catalog::{self, Event, Options, Rebuilt, Source};
use serde::Serialize;

use super::{App, failed, rows};
use crate::commands::origin;
use crate::commands::watch::{Watch, add_finding, stop_on_ctrl_c};
use crate::errors::{Exit, Failure};
use crate::format::table::{pairs, plain};
use crate::format::time::span;
use crate::format::{count, grouped};
use crate::output::TextStyle;

const EXAMPLES: &str = "\
Examples:
  nightferry migrate                         create the tables of an empty database first
  nightferry catalog rebuild --dry-run       show what would be restored, change nothing
  nightferry catalog rebuild                 from the newest valid snapshot and later objects
  nightferry catalog rebuild --from KEY      from this snapshot
  nightferry catalog rebuild --from-objects  from the metadata of the objects, without any snapshot

The rebuild is one transaction: if it fails or is interrupted, the database is still empty. Stop the API \
and the workers first. docs/catalog.md describes disaster recovery step by step, and what cannot be \
restored without a snapshot.

A database that contains nothing but the administrator created at the first start counts as empty.

Exit code 0 if everything was rebuilt, 7 if something could not be used, 4 if the database is not empty.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct RebuildArgs {
    /// Use this snapshot [default: the newest valid one]
    #[arg(long, value_name = "KEY", conflicts_with = "from_objects")]
    from: Option<String>,
    /// Use only the objects
    #[arg(long)]
    from_objects: bool,
    /// Do everything, report the result, and roll back
    #[arg(long)]
    dry_run: bool,
}

#[derive(Serialize)]
struct Document<R> {
    ok: bool,
    dry_run: bool,
    #[serde(flatten)]
    rebuilt: R,
    unusable: Vec<Unusable>,
    more_unusable: bool,
}

/// A snapshot or an object that could not be used.
#[derive(Serialize)]
struct Unusable {
    store: String,
    key: String,
    reason: String,
}

pub(super) async fn run(app: &App, accounts: &Accounts, args: RebuildArgs) -> Result<Exit, Failure> {
    let source = match (args.from, args.from_objects) {
        (Some(key), _) => Source::Snapshot(key),
        (None, true) => Source::Objects,
        (None, false) => Source::Newest,
    };
    let stop = stop_on_ctrl_c();
    let mut watch = Watch::new(&app.output);
    let (mut unusable, mut more_unusable) = (Vec::new(), false);
    let mut note = |store: &str, key: &str, why: &str| {
        let one = Unusable { store: store.to_owned(), key: key.to_owned(), reason: why.to_owned() };
        add_finding(&mut unusable, &mut more_unusable, one);
    };
    let tell = |event: Event<'_>| match event {
        Event::Refused { key, why } => note("", key, why),
        Event::Unusable { store, key, why } => note(store, key, why),
        Event::Restored(so_far) => watch.show(|| format!("restored: {}", rows(so_far))),
        Event::Listed { store, objects } => {
            watch.show(|| format!("{store}: {} listed", count(objects, "object")));
        }
        Event::Examined(objects) => watch.show(|| format!("{} examined", count(objects, "object"))),
        Event::Adoptable(_) => {}
    };
    let origin = origin();
    let options = Options { source, trial: args.dry_run, origin: &origin };
    let outcome = catalog::rebuild(accounts, &options, tell, &stop).await;
    watch.clear();
    let rebuilt = outcome.map_err(|error| failed("rebuild the catalogue", error))?;
    let document = Document {
        ok: rebuilt.rejected == 0 && rebuilt.unusable == 0 && rebuilt.aligned.lost == 0,
        dry_run: args.dry_run,
        rebuilt: rebuilt_catalog(&rebuilt),
        unusable,
        more_unusable,
    };
    app.output.result(&document, |look| text(&rebuilt, &document, look))?;
    advise(app, &rebuilt, &document);
    Ok(if document.ok { Exit::Ok } else { Exit::Findings })
}

fn advise(app: &App, rebuilt: &Rebuilt, document: &Document<impl Serialize>) {
    if document.dry_run {
        app.output.note("Nothing was changed: this was a dry run.");
        return;
    }
    if rebuilt.imported.users > 0 {
        let users = count(rebuilt.imported.users, "account");
        let (enable, password) =
            (app.output.command("user enable EMAIL"), app.output.command("user reset-password EMAIL"));
        app.output.warning(&format!(
            "{users} restored as disabled and without a password: {password}, then {enable}"
        ));
    }
    if rebuilt.aligned.unverified > 0 {
        let copies = count(rebuilt.aligned.unverified, "copy");
        let text =
            "could not be proved: nothing is deleted because of them until they have been read. To read them";
        app.output.note_command(&format!("{copies} {text}"), "scrub");
    }
    if rebuilt.unrecovered > 0 {
        let objects = count(rebuilt.unrecovered, "object");
        let text = "older than the snapshot and unknown to it: probably deleted before. To list them";
        app.output.note_command(&format!("{objects} {text}"), "reconcile");
    }
}

fn text(rebuilt: &Rebuilt, document: &Document<impl Serialize>, look: TextStyle) -> String {
    let from = rebuilt.snapshot.clone().unwrap_or_else(|| "the objects only".to_owned());
    let imported = &rebuilt.imported;
    let made = [
        count(imported.users, "user"),
        count(imported.folders, "folder"),
        count(imported.objects, "object"),
        count(imported.files, "file"),
        count(imported.versions, "version"),
    ]
    .join(", ");
    let listed: Vec<String> =
        rebuilt.listed.iter().map(|(store, objects)| format!("{} in {store}", grouped(*objects))).collect();
    let aligned = &rebuilt.aligned;
    let mut facts = vec![("from", from)];
    if let Some(at) = rebuilt.taken_at {
        facts.push(("taken", look.zone.show(at)));
        facts.push(("restored", rows(&rebuilt.restored)));
    }
    facts.push(("listed", listed.join(", ")));
    facts.push(("from metadata", made));
    if imported.renamed > 0 {
        facts.push(("renamed", format!("{}, whose name was already used", count(imported.renamed, "file"))));
    }
    facts.push((
        "copies",
        format!(
            "{} found, {} missing that exist elsewhere, {} lost, {} not verified",
            grouped(aligned.found),
            grouped(aligned.missing),
            grouped(aligned.lost),
            grouped(aligned.unverified)
        ),
    ));
    facts.push(("unusable", grouped(rebuilt.rejected + rebuilt.unusable)));
    facts.push(("duration", span(rebuilt.took)));
    facts.push(("result", look.state(if document.ok { "ok" } else { "differs" })));
    let mut text = pairs(&facts);
    for unusable in &document.unusable {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {} {}: {}", unusable.store, plain(&unusable.key), plain(&unusable.reason));
    }
    text
}
