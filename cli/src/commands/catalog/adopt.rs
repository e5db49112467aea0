//! `nightferry catalog adopt`: brings objects that the database does not know into it.

use std::fmt::Write as _;

use clap::Args;
use nightferry_api_types::catalog::{AdoptableObject, adopted_objects};
use nightferry_core::auth::Accounts;
use nightferry_core::catalog::{self, AdoptOptions, Adoption, Event};
use serde::Serialize;

use super::{App, failed};
use crate::commands::origin;
use crate::commands::watch::{Watch, add_finding, stop_on_ctrl_c, with_findings};
use crate::errors::{Exit, Failure};
use crate::format::table::{pairs, plain};
use crate::format::time::span;
use crate::format::{bytes, count, grouped};
use crate::output::TextStyle;

const EXAMPLES: &str = "\
Examples:
  nightferry catalog adopt            list every store, show the objects that the database does not know
  nightferry catalog adopt --apply    create files, versions, folders and accounts for them

For a database that was restored from a backup: files that were uploaded after the backup are still in the stores. \
They get the owner, folder, name and version in their metadata; docs/catalog.md describes what the metadata does not \
contain. Objects that were deleted for good, and objects without metadata of Nightferry, are not adopted. The API and \
the workers can continue meanwhile. `nightferry reconcile` adopts copies of files that the database does know.

Exit code 0 if no unknown object was found, or all were adopted; 7 otherwise.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AdoptArgs {
    /// Adopt the objects instead of only showing them
    #[arg(long)]
    apply: bool,
}

#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a JSON document, not a state")]
struct Document<R> {
    ok: bool,
    apply: bool,
    #[serde(flatten)]
    adoption: R,
    found: Vec<AdoptableObject>,
    more_found: bool,
    unusable: Vec<Unusable>,
    more_unusable: bool,
}

/// An object that could not be used.
#[derive(Serialize)]
struct Unusable {
    store: String,
    key: String,
    reason: String,
}

pub(super) async fn run(app: &App, accounts: &Accounts, args: &AdoptArgs) -> Result<Exit, Failure> {
    let stop = stop_on_ctrl_c();
    let mut watch = Watch::new(&app.output);
    let (mut found, mut more_found) = (Vec::new(), false);
    let (mut unusable, mut more_unusable) = (Vec::new(), false);
    let tell = |event: Event<'_>| match event {
        Event::Adoptable(seen) => add_finding(&mut found, &mut more_found, AdoptableObject::from(seen)),
        Event::Unusable { store, key, why } => {
            let one = Unusable { store: store.to_owned(), key: key.to_owned(), reason: why.to_owned() };
            add_finding(&mut unusable, &mut more_unusable, one);
        }
        Event::Listed { store, objects } => {
            watch.show(|| format!("{store}: {} listed", count(objects, "object")));
        }
        Event::Examined(objects) => watch.show(|| format!("{} examined", count(objects, "object"))),
        Event::Refused { .. } | Event::Restored(_) => {}
    };
    let origin = origin();
    let options = AdoptOptions { apply: args.apply, origin: &origin };
    let outcome = catalog::adopt(accounts, options, tell, &stop).await;
    watch.clear();
    let adoption = outcome.map_err(|error| failed("adopt unknown objects", error))?;
    let document = Document {
        ok: adoption.complete && adoption.unusable == 0 && (args.apply || adoption.objects == 0),
        apply: args.apply,
        adoption: adopted_objects(&adoption),
        found,
        more_found,
        unusable,
        more_unusable,
    };
    app.output.result(&document, |look| text(&adoption, &document, look))?;
    advise(app, args, &adoption);
    Ok(match (adoption.complete, document.ok) {
        (false, _) => Exit::Interrupted,
        (true, true) => Exit::Ok,
        (true, false) => Exit::Findings,
    })
}

fn advise(app: &App, args: &AdoptArgs, adoption: &Adoption) {
    if !adoption.complete {
        app.output.warning("interrupted: what was adopted until then remains; the next adoption continues");
    }
    if !args.apply && adoption.objects > 0 {
        app.output.note_command("Nothing was changed. To adopt these objects", "catalog adopt --apply");
    }
    if args.apply && adoption.imported.users > 0 {
        let users = count(adoption.imported.users, "account");
        let (enable, password) =
            (app.output.command("user enable EMAIL"), app.output.command("user reset-password EMAIL"));
        app.output.warning(&format!(
            "{users} created as disabled and without a password: {password}, then {enable}"
        ));
    }
}

fn text<R: Serialize>(adoption: &Adoption, document: &Document<R>, look: TextStyle) -> String {
    let imported = &adoption.imported;
    let made = [
        count(imported.users, "user"),
        count(imported.folders, "folder"),
        count(imported.files, "file"),
        count(imported.versions, "version"),
    ]
    .join(", ");
    let listed: Vec<String> =
        adoption.listed.iter().map(|(store, objects)| format!("{} in {store}", grouped(*objects))).collect();
    let mut facts = vec![
        ("listed", listed.join(", ")),
        ("unknown", format!("{}, {}", count(adoption.objects, "object"), bytes::human(adoption.bytes))),
    ];
    if document.apply {
        facts.push(("created", made));
        facts.push(("copies", grouped(adoption.copies)));
    }
    facts.push(("removed before", grouped(adoption.removed)));
    facts.push(("without metadata", grouped(adoption.unlabelled)));
    facts.push(("unusable", grouped(adoption.unusable)));
    facts.push(("duration", span(adoption.took)));
    facts.push(("result", look.state(if document.ok { "ok" } else { "differs" })));
    let found = (document.found.as_slice(), document.more_found);
    let mut text = with_findings(pairs(&facts), found, "STORE | OWNER | > BYTES | PATH | KEY", |object| {
        [
            object.store.clone(),
            plain(&object.owner),
            bytes::human(object.bytes),
            plain(&object.path),
            plain(&object.key),
        ]
    });
    for unusable in &document.unusable {
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {} {}: {}", unusable.store, plain(&unusable.key), plain(&unusable.reason));
    }
    text
}
