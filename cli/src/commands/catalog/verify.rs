//! `nightferry catalog verify`: checks whether a snapshot is valid, and whether the copies it lists still exist.

use clap::Args;
use nightferry_core::catalog::{self, Finding, Verified};
use nightferry_core::context::Context;
use serde::Serialize;

use super::{App, failed, rows};
use crate::commands::watch::{Watch, add_finding, stop_on_ctrl_c, with_findings};
use crate::errors::{Exit, Failure};
use crate::format::table::{pairs, plain};
use crate::format::{count, grouped};
use crate::output::TextStyle;

const EXAMPLES: &str = "\
Examples:
  nightferry catalog verify                  the newest snapshot
  nightferry catalog verify KEY              another one
  nightferry catalog verify --deep           also compare the metadata and checksum of each copy

Needs the stores and the key, not the database. Copies are looked up in the listings of the stores; missing \
ones are checked with a request before they are reported. Copies that were evicted or deleted since the \
snapshot are reported as missing.

Exit code 0 if the snapshot is valid and all copies match it, 7 otherwise.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct VerifyArgs {
    /// The snapshot [default: the newest]
    #[arg(value_name = "KEY")]
    key: Option<String>,
    /// Also check the metadata of each copy: one request per copy
    #[arg(long)]
    deep: bool,
}

#[derive(Serialize)]
struct Document {
    ok: bool,
    deep: bool,
    #[serde(flatten)]
    verified: Verified,
    found: Vec<Finding>,
    more_found: bool,
}

pub(super) async fn run(app: &App, context: &Context, args: &VerifyArgs) -> Result<Exit, Failure> {
    let stop = stop_on_ctrl_c();
    let mut watch = Watch::new(&app.output);
    let (mut found, mut more_found) = (Vec::new(), false);
    let tell = |so_far: &Verified, finding: Option<&Finding>| {
        if let Some(finding) = finding {
            add_finding(&mut found, &mut more_found, finding.clone());
        }
        watch.show(|| {
            format!("{}, {}", count(so_far.copies, "copy checked"), count(so_far.bad_copies(), "finding"))
        });
    };
    let outcome = catalog::verify(context, args.key.as_deref(), args.deep, tell, &stop).await;
    watch.clear();
    let verified = outcome.map_err(|error| failed("accept the snapshot", error))?;
    let document = Document { ok: verified.bad_copies() == 0, deep: args.deep, verified, found, more_found };
    app.output.result(&document, |look| text(&document, look))?;
    Ok(if document.ok { Exit::Ok } else { Exit::Findings })
}

fn text(document: &Document, look: TextStyle) -> String {
    let verified = &document.verified;
    let taken = verified.taken_at.map_or_else(String::new, |at| look.zone.show(at));
    let result = if document.ok { "ok" } else { "differs" };
    let bad: Vec<String> = verified
        .bad
        .iter()
        .map(|(bad, copies)| format!("{} {}", grouped(*copies), <&str>::from(bad)))
        .collect();
    let bad = if bad.is_empty() { "all copies exist".to_owned() } else { bad.join(", ") };
    let facts = pairs(&[
        ("snapshot", verified.key.clone()),
        ("taken", taken),
        ("signature", look.state("ok")),
        ("rows", rows(&verified.rows)),
        ("copies", format!("{}: {bad}", grouped(verified.copies))),
        ("without a copy", count(verified.objects_without_copy, "object")),
        ("result", look.state(result)),
    ]);
    with_findings(facts, (&document.found, document.more_found), "STORE | FINDING | KEY", |finding| {
        [finding.store.clone(), <&str>::from(finding.bad).to_owned(), plain(&finding.key)]
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nightferry_core::catalog::Bad;

    use super::*;
    use crate::format::time::Zone;

    #[test]
    fn verification_result_as_text() {
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
        let found = vec![Finding {
            store: "s3".to_owned(),
            bad: Bad::Missing,
            key: "user-0199/0199-report.pdf".to_owned(),
        }];
        let document = Document { ok: false, deep: false, verified, found, more_found: false };
        insta::assert_snapshot!(text(&document, TextStyle { color: false, zone: Zone::Utc }));
    }
}
