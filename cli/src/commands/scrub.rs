//! `nightferry scrub`: re-reads and hashes verified copies, and reports damaged ones.

use std::time::Duration;

use clap::Args;
use nightferry_core::context::Context;
use nightferry_core::object::canary;
use nightferry_core::tiering::scrub::{self, Ended, Event, Finding, Kind, Options, Summary};
use serde::Serialize;

use super::watch::{Watch, add_finding, busy, stop_on_ctrl_c, with_findings};
use super::{App, store};
use crate::errors::{Exit, Failure, cannot};
use crate::format::amount::{self, Amount};
use crate::format::table::{pairs, plain};
use crate::format::{bytes, count, grouped};
use crate::output::TextStyle;

const EXAMPLES: &str = "\
Examples:
  nightferry scrub                           read everything, at the configured rate
  nightferry scrub --store minio --rate 1GiB one store, faster
  nightferry scrub --limit 50GiB             this amount, the oldest verification first
  nightferry scrub --limit 2h                for this time

A copy with the right hash counts as verified now. A copy that is missing or corrupt, in two readings, is \
marked as lost, and the next run copies it again from another verified copy. An object without a verified \
copy whose content is back is recovered. The next pass continues where this one ends. Reading the cloud \
store causes egress costs.

Exit code 0 if everything that was read is correct, 7 if something was not, 6 if a store could not be read.";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ScrubArgs {
    /// Only this store
    #[arg(long, value_name = "NAME")]
    store: Option<String>,
    /// Read at most this much per second, such as 50MiB (2^20) or 50MB (10^6) [default: `scrub.rate_mib`]
    #[arg(long, value_name = "SIZE", value_parser = amount::size)]
    rate: Option<u64>,
    /// Stop after this many bytes (500MiB, 2TB) or this long (90m, 8h)
    #[arg(long, value_name = "SIZE|TIME", value_parser = amount::either)]
    limit: Option<Amount>,
}

#[derive(Serialize)]
struct Document {
    ok: bool,
    #[serde(flatten)]
    summary: Summary,
    found: Vec<Finding>,
    more_found: bool,
}

pub(super) async fn run(app: &App, context: &Context, args: &ScrubArgs) -> Result<Exit, Failure> {
    let (bytes, time) = match args.limit {
        Some(Amount::Bytes(bytes)) => (Some(bytes), None),
        Some(Amount::Time(time)) => (None, Some(time)),
        None => (None, None),
    };
    let options = Options {
        stores: store::chosen(context, args.store.as_deref())?,
        rate: Some(args.rate.unwrap_or_else(|| context.config.scrub.rate_bytes())),
        bytes,
        time,
        min_age: Duration::ZERO,
    };
    canary::send_first(context).await;
    let stop = stop_on_ctrl_c();
    let mut watch = Watch::new(&app.output);
    let (mut found, mut more_found) = (Vec::new(), false);
    let tell = |event: Event<'_>| match event {
        Event::Progress(summary) => watch.show(|| progress(summary)),
        Event::Found(finding) => add_finding(&mut found, &mut more_found, finding.clone()),
    };
    let outcome = scrub::pass(context, &options, tell, &stop).await;
    watch.clear();
    let Some(summary) = outcome.map_err(cannot("scrub"))? else {
        return Err(busy("scrub", "scrubbing"));
    };
    let exit = exit(&summary);
    let document = Document { ok: exit == Exit::Ok, summary, found, more_found };
    app.output.result(&document, |look| text(&document, look))?;
    advise(app, &document.summary);
    Ok(exit)
}

/// Damaged copies take precedence over unreadable ones.
fn exit(summary: &Summary) -> Exit {
    if summary.found() > 0 {
        Exit::Findings
    } else if summary.ended == Ended::Interrupted {
        Exit::Interrupted
    } else if summary.unreachable.is_empty() && summary.unread == 0 {
        Exit::Ok
    } else {
        Exit::Unreachable
    }
}

fn advise(app: &App, summary: &Summary) {
    if summary.found() > 0 {
        app.output
            .note_command("Lost copies are made again by the next run. To run it now", "sync run --wait");
    }
    for store in &summary.unreachable {
        app.output.warning_command(
            &format!("the store {store} failed and was skipped. To find out why"),
            &format!("store check {store}"),
        );
    }
}

fn progress(summary: &Summary) -> String {
    format!(
        "{} read, {} correct, {}",
        bytes::human(summary.bytes),
        grouped(summary.right),
        count(summary.found(), "finding")
    )
}

fn text(document: &Document, look: TextStyle) -> String {
    let summary = &document.summary;
    let ended = match summary.ended {
        Ended::Everything => "everything was read",
        Ended::Limit => "the limit was reached; the next pass continues from here",
        Ended::Interrupted => "interrupted; the next pass continues from here",
    };
    let number = |kind| grouped(summary.of(kind).found);
    let facts = pairs(&[
        ("ended", ended.to_owned()),
        ("read", bytes::human(summary.bytes)),
        ("correct", grouped(summary.right)),
        ("missing", number(Kind::Missing)),
        ("corrupt", number(Kind::Corrupt)),
        ("recovered", grouped(summary.returned)),
        ("unreadable", grouped(summary.unread)),
        ("result", look.state(if summary.found() == 0 { "ok" } else { "differs" })),
    ]);
    let found = (document.found.as_slice(), document.more_found);
    with_findings(facts, found, "STORE | FINDING | > BYTES | > COPIES LEFT | KEY | DETAIL", |finding| {
        [
            finding.store.clone(),
            <&str>::from(finding.kind).to_owned(),
            bytes::human(finding.bytes),
            grouped(finding.copies_left),
            plain(&finding.key),
            plain(&finding.detail),
        ]
    })
}

#[cfg(test)]
mod tests {
    use nightferry_core::ids::ObjectId;
    use nightferry_core::tiering::scrub::Tally;

    use super::*;
    use crate::format::time::Zone;

    fn summary(ended: Ended, corrupt: u64) -> Summary {
        let mut summary = Summary { ended, right: 1_998, bytes: 32_768_000, ..Summary::default() };
        summary.findings.insert(Kind::Corrupt, Tally { found: corrupt, bytes: corrupt * 1024 });
        summary
    }

    #[test]
    fn scrub_result_as_text() {
        let finding = Finding {
            kind: Kind::Corrupt,
            store: "minio".to_owned(),
            key: "user-0199/0199-report.pdf".to_owned(),
            object_id: ObjectId(uuid::Uuid::nil()),
            bytes: 1024,
            detail: "it has other content".to_owned(),
            copies_left: 1,
        };
        let document = Document {
            ok: false,
            summary: summary(Ended::Limit, 1),
            found: vec![finding],
            more_found: false,
        };
        insta::assert_snapshot!(text(&document, TextStyle { color: false, zone: Zone::Utc }));
    }

    #[test]
    fn the_exit_code_distinguishes_bad_copies_from_unread_ones() {
        assert_eq!(exit(&summary(Ended::Everything, 0)), Exit::Ok);
        assert_eq!(exit(&summary(Ended::Limit, 0)), Exit::Ok);
        assert_eq!(exit(&summary(Ended::Interrupted, 0)), Exit::Interrupted);
        assert_eq!(exit(&summary(Ended::Interrupted, 1)), Exit::Findings);
        let left_alone = Summary { unreachable: vec!["s3".to_owned()], ..summary(Ended::Everything, 0) };
        assert_eq!(exit(&left_alone), Exit::Unreachable);
    }
}
