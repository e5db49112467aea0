//! `nightferry reconcile`: compares the contents of the stores with the database, and with `--apply` fixes differences.

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::object::canary;
use nightferry_core::tiering::reconcile::{self, Event, Finding, Kind, Options, Outcome, Summary};
use serde::Serialize;

use super::watch::{Watch, add_finding, busy, stop_on_ctrl_c, with_findings};
use super::{App, store};
use crate::errors::{Exit, Failure, cannot};
use crate::format::table::{plain, table};
use crate::format::{bytes, count, grouped};
use crate::output::TextStyle;

const EXAMPLES: &str = "\
Examples:
  nightferry reconcile                       compare every store with the database, change no store
  nightferry reconcile --store s3            one of them
  nightferry reconcile --apply               also fix what is found

Findings are: orphans (objects without a row in the database that were deleted or belong elsewhere, older than \
reconcile.safety_age), unknown objects (they may be newer than a restored database), adopted copies (intact copies \
that the database did not expect; they count from now on), objects that are missing or have a wrong size, and \
unfinished multipart uploads without a row, older than uploads.session_ttl. Each finding is checked again before it \
is reported; files may be uploaded and synced meanwhile.

Copies that are missing or have a wrong size become suspect at once: they no longer count as copies, so \
that no other copy is deleted because of them. A later pass or scrub that finds one intact ends that.

--apply deletes orphans and aborts stale uploads; missing objects and those with a wrong size are marked as \
lost, and the next run copies them again from another verified copy. Unknown objects are never deleted: `nightferry \
catalog adopt` brings them into the database. Objects with foreign keys are counted and never touched.

Exit code 0 if there are no findings, 7 otherwise, fixed or not.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ReconcileArgs {
    /// Only this store
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
    /// Fix what is found instead of only reporting it
    #[arg(long)]
    apply: bool,
}

#[derive(Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "a JSON document, not a state")]
struct Document {
    ok: bool,
    complete: bool,
    apply: bool,
    stores: Vec<Summary>,
    findings: Vec<Finding>,
    more_findings: bool,
}

pub(super) async fn run(app: &App, context: &Context, args: &ReconcileArgs) -> Result<Exit, Failure> {
    let stores = store::chosen(context, args.store.as_deref())?;
    canary::send_first(context).await;
    let stop = stop_on_ctrl_c();
    let mut watch = Watch::new(&app.output);
    let mut document = Document {
        ok: true,
        complete: true,
        apply: args.apply,
        stores: Vec::new(),
        findings: Vec::new(),
        more_findings: false,
    };
    let options = Options { apply: args.apply, safety_age: context.config.reconcile.safety_age };
    for store in &stores {
        let tell = |event: Event<'_>| match event {
            Event::Progress(summary) => watch.show(|| progress(summary)),
            Event::Found(finding) => {
                add_finding(&mut document.findings, &mut document.more_findings, finding.clone());
            }
        };
        let act = format!("reconcile the store {}", store.name());
        let outcome = reconcile::pass(context, store, options, tell, &stop).await;
        if outcome.is_err() {
            watch.clear();
        }
        let summary = outcome.map_err(cannot(&act))?;
        let Some(summary) = summary else { return Err(busy(&act, "reconciling it")) };
        document.complete &= summary.complete;
        document.stores.push(summary);
        if stop.is_cancelled() {
            break;
        }
    }
    watch.clear();
    document.complete &= !stop.is_cancelled();
    document.ok = document.complete
        && document.stores.iter().all(|summary| summary.found() == 0 && summary.unchecked == 0);
    app.output.result(&document, |look| text(&document, look))?;
    advise(app, &document);
    Ok(exit(&document))
}

fn exit(document: &Document) -> Exit {
    if !document.complete {
        return Exit::Interrupted;
    }
    if document.ok { Exit::Ok } else { Exit::Findings }
}

fn advise(app: &App, document: &Document) {
    if !document.complete {
        app.output.warning("interrupted: the findings so far are shown");
    }
    for summary in document.stores.iter().filter(|summary| summary.unchecked > 0) {
        app.output.warning(&format!(
            "{} of the store {} could not be checked; the last error: {}",
            count(summary.unchecked, "object"),
            summary.store,
            summary.last_error.as_deref().unwrap_or("unknown")
        ));
    }
    let unknown: u64 = document.stores.iter().map(|summary| summary.of(Kind::Unknown).found).sum();
    if unknown > 0 {
        let text =
            format!("{} may be newer than the database. To see them", count(unknown, "unknown object"));
        app.output.note_command(&text, "catalog adopt");
    }
    let lost = |summary: &Summary| summary.of(Kind::Missing).applied + summary.of(Kind::WrongSize).applied;
    // Unknown objects are never changed, and adopted copies are recorded already.
    let fixable = |summary: &Summary| {
        summary.found() - summary.of(Kind::Unknown).found - summary.of(Kind::Adopted).found
    };
    if document.stores.iter().any(|summary| fixable(summary) > 0) && !document.apply {
        let suspect = |summary: &Summary| summary.of(Kind::Missing).found + summary.of(Kind::WrongSize).found;
        let what = if document.stores.iter().map(suspect).sum::<u64>() == 0 {
            "Nothing was changed. To fix the findings"
        } else {
            "Nothing was changed in the stores. Copies that are missing or have a wrong size are suspect: no other \
             copy is deleted because of them. To fix the findings"
        };
        app.output.note_command(what, "reconcile --apply");
    } else if document.stores.iter().map(lost).sum::<u64>() > 0 {
        app.output
            .note_command("Lost copies are made again by the next run. To run it now", "sync run --wait");
    }
}

fn progress(summary: &Summary) -> String {
    format!(
        "{}: {}, {}, {}",
        summary.store,
        count(summary.objects, "object"),
        bytes::human(summary.bytes),
        count(summary.found(), "finding")
    )
}

fn text(document: &Document, look: TextStyle) -> String {
    let headings = "STORE | > OBJECTS | > BYTES | > FOREIGN | > ORPHANS | > UNKNOWN | > ADOPTED | > MISSING | \
                    > WRONG SIZE | > STALE UPLOADS | RESULT";
    let stores = table(headings, &document.stores, |summary| {
        let found = |kind| grouped(summary.of(kind).found);
        let result = match (summary.complete, summary.found()) {
            (false, _) => "interrupted",
            (true, 0) if summary.unchecked > 0 => "unchecked",
            (true, 0) => "ok",
            (true, _) => "differs",
        };
        [
            summary.store.clone(),
            grouped(summary.objects),
            bytes::human(summary.bytes),
            grouped(summary.foreign),
            found(Kind::Orphan),
            found(Kind::Unknown),
            found(Kind::Adopted),
            found(Kind::Missing),
            found(Kind::WrongSize),
            found(Kind::StaleUpload),
            look.state(result),
        ]
    });
    let found = (document.findings.as_slice(), document.more_findings);
    with_findings(stores, found, "STORE | FINDING | > BYTES | ACTION | KEY | DETAIL", |finding| {
        let what = match finding.outcome.kept_because() {
            Some(why) => format!("{}; kept: {why}", finding.detail),
            None => finding.detail.clone(),
        };
        [
            finding.store.clone(),
            <&str>::from(finding.kind).to_owned(),
            bytes::human(finding.bytes),
            if finding.outcome == Outcome::Applied { "yes" } else { "no" }.to_owned(),
            plain(&finding.key),
            plain(&what),
        ]
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nightferry_core::tiering::reconcile::Tally;

    use super::*;
    use crate::format::time::Zone;

    fn summary(store: &str, findings: &[(Kind, u64, u64)]) -> Summary {
        let tally = |found, applied| Tally { found, bytes: found * 1024, applied };
        let findings: BTreeMap<_, _> =
            findings.iter().map(|(kind, found, applied)| (*kind, tally(*found, *applied))).collect();
        Summary {
            store: store.to_owned(),
            apply: true,
            complete: true,
            objects: 2000,
            bytes: 32_768_000,
            foreign: 1,
            uploads: 0,
            unchecked: 0,
            last_error: None,
            findings,
        }
    }

    fn document(stores: Vec<Summary>) -> Document {
        let ok = stores.iter().all(|summary| summary.found() == 0);
        Document { ok, complete: true, apply: true, stores, findings: Vec::new(), more_findings: false }
    }

    #[test]
    fn findings_as_text() {
        let stores =
            vec![summary("minio", &[]), summary("s3", &[(Kind::Orphan, 2, 1), (Kind::Missing, 1, 1)])];
        let mut document = document(stores);
        let finding = |kind, outcome, detail: &str| Finding {
            kind,
            store: "s3".to_owned(),
            key: "user-0199/0199-report.pdf".to_owned(),
            object_id: None,
            bytes: 1024,
            detail: detail.to_owned(),
            outcome,
        };
        document.findings = vec![
            finding(Kind::Orphan, Outcome::Applied, "no object with this key is known"),
            finding(
                Kind::Orphan,
                Outcome::Kept("access denied".to_owned()),
                "no object with this key is known",
            ),
            finding(Kind::Missing, Outcome::Applied, "it is missing"),
        ];
        insta::assert_snapshot!(text(&document, TextStyle { color: false, zone: Zone::Utc }));
    }

    #[test]
    fn the_exit_code_distinguishes_findings_none_and_interruption() {
        assert_eq!(exit(&document(vec![summary("minio", &[])])), Exit::Ok);
        let found = vec![summary("minio", &[(Kind::StaleUpload, 1, 1)])];
        assert_eq!(exit(&document(found)), Exit::Findings);
        let interrupted = Document { complete: false, ..document(Vec::new()) };
        assert_eq!(exit(&interrupted), Exit::Interrupted);
    }
}
