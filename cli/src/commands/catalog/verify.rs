//! `nightferry catalog verify`: whether a snapshot can be believed, and whether what it names is still there.

use clap::Args;
use nightferry_core::catalog::{self, Finding, Verified};
use nightferry_core::context::Context;
use serde::Serialize;

use super::{App, failed, rows};
use crate::commands::watch::{Watch, stop_on_ctrl_c};
use crate::errors::{Exit, Failure};
use crate::format::table::{Align, Table, pairs, plain};
use crate::format::{count, grouped};
use crate::output::Look;

/// Findings shown at most; the summary counts them all.
const SHOWN: usize = 1000;

const EXAMPLES: &str = "\
Examples:
  nightferry catalog verify                  the newest snapshot
  nightferry catalog verify KEY              another one
  nightferry catalog verify --deep           also ask about each copy and compare its label and checksum

Needs the stores and the key, not the database. Copies are looked for in the stores' listings; what is missing there is \
asked about before it is told. What was freed or deleted since the snapshot was taken is missing rightly.

Exit code 0 when all is as the snapshot says, 7 when it is not to be believed or a copy is not as it says.";

/// Options of `catalog verify`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct VerifyArgs {
    /// The snapshot [default: the newest]
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Also ask about each copy: one request for each
    #[arg(long)]
    deep: bool,
}

#[derive(Serialize)]
struct Document {
    ok: bool,
    deep: bool,
    #[serde(flatten)]
    verified: Verified,
    found: Vec<FindingDocument>,
    more_found: bool,
}

#[derive(Serialize)]
struct FindingDocument {
    store: String,
    kind: &'static str,
    key: String,
}

impl FindingDocument {
    fn of(finding: &Finding) -> Self {
        Self { store: finding.store.clone(), kind: finding.bad.as_str(), key: finding.key.clone() }
    }
}

pub(super) async fn run(app: &App, context: &Context, args: &VerifyArgs) -> Result<Exit, Failure> {
    let stop = stop_on_ctrl_c();
    let mut watch = Watch::new(&app.output);
    let (mut found, mut more_found) = (Vec::new(), false);
    let tell = |so_far: &Verified, finding: Option<&Finding>| {
        match finding {
            Some(finding) if found.len() < SHOWN => found.push(FindingDocument::of(finding)),
            Some(_) => more_found = true,
            None => {}
        }
        watch.show(|| {
            format!("{}, {}", count(so_far.copies, "copy looked for"), count(so_far.bad_copies(), "finding"))
        });
    };
    let outcome = catalog::verify(context, args.key.as_deref(), args.deep, tell, &stop).await;
    watch.clear();
    let verified = outcome.map_err(|error| failed("believe the snapshot", error))?;
    let document = Document { ok: verified.bad_copies() == 0, deep: args.deep, verified, found, more_found };
    app.output.result(&document, |look| text(&document, look))?;
    Ok(if document.ok { Exit::Ok } else { Exit::Findings })
}

fn text(document: &Document, look: Look) -> String {
    let verified = &document.verified;
    let taken = verified.taken_at.map_or_else(String::new, |at| look.zone.show(at));
    let result = if document.ok { "ok" } else { "differs" };
    let bad: Vec<String> =
        verified.bad.iter().map(|(bad, copies)| format!("{} {}", grouped(*copies), bad.as_str())).collect();
    let bad = if bad.is_empty() { "every one is there".to_owned() } else { bad.join(", ") };
    let facts = pairs(&[
        ("snapshot", verified.key.clone()),
        ("taken", taken),
        ("signature", look.state("ok")),
        ("rows", rows(&verified.rows)),
        ("copies", format!("{}: {bad}", grouped(verified.copies))),
        ("without any", count(verified.objects_without_copy, "object")),
        ("result", look.state(result)),
    ]);
    if document.found.is_empty() {
        return facts;
    }
    let mut table = Table::new(&[("STORE", Align::Left), ("FOUND", Align::Left), ("KEY", Align::Left)]);
    for finding in &document.found {
        table.row([finding.store.clone(), finding.kind.to_owned(), plain(&finding.key)]);
    }
    let more =
        if document.more_found { format!("\nonly the first {SHOWN} are shown") } else { String::new() };
    format!("{facts}\n\n{}{more}", table.render())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nightferry_core::catalog::Bad;

    use super::*;
    use crate::format::time::Zone;

    #[test]
    fn what_was_verified_for_people() {
        let verified = Verified {
            store: "s3".to_owned(),
            key: "_nightferry/catalog/20261121T000003.000120Z-0199f0a0-0000-7000-8000-000000000002.jsonl.zst"
                .to_owned(),
            taken_at: "2026-11-21T00:00:03Z".parse().ok(),
            schema: "20261121000007".to_owned(),
            rows: BTreeMap::new(),
            copies: 2000,
            bad: BTreeMap::from([(Bad::Missing, 1)]),
            objects_without_copy: 1,
        };
        let found = vec![FindingDocument {
            store: "s3".to_owned(),
            kind: "missing",
            key: "user-0199/0199-report.pdf".to_owned(),
        }];
        let document = Document { ok: false, deep: false, verified, found, more_found: false };
        insta::assert_snapshot!(text(&document, Look { color: false, zone: Zone::Utc }));
    }
}
