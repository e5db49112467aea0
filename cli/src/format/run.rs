//! Formats runs as text.

use std::time::Duration;

use nightferry_core::db::enums::RunStatus;
use nightferry_core::db::run_failures::RunFailure;
use nightferry_core::db::runs::Run;
use nightferry_core::db::unsigned;
use nightferry_core::tiering::run::RunView;

use super::table::{pairs, plain, table};
use super::{bytes, count, grouped, time};
use crate::output::TextStyle;

/// The progress of a run on one line: `12 of 345 files, 1.2 GiB of 30.0 GiB, 2 failed`.
pub(crate) fn progress(run: &Run) -> String {
    let (done, total) = (unsigned(run.files_done), unsigned(run.files_total));
    let moved = bytes::human(unsigned(run.bytes_done));
    let text = if done == total {
        format!("{}, {moved}", count(done, "file"))
    } else {
        format!(
            "{} of {}, {moved} of {}",
            grouped(done),
            count(total, "file"),
            bytes::human(unsigned(run.bytes_total))
        )
    };
    if run.files_failed > 0 {
        return format!("{text}, {} failed", grouped(unsigned(run.files_failed)));
    }
    text
}

/// The duration of a finished run.
pub(crate) fn duration(run: &Run) -> Option<Duration> {
    Some(time::between(run.started_at?, run.finished_at?))
}

/// The scope of a run, as text.
pub(crate) fn scope(run: &Run) -> String {
    let Ok(scope) = run.scope() else { return "unknown to this version".to_owned() };
    let mut parts = Vec::new();
    if let Some(user) = scope.user_id {
        parts.push(format!("account {user}"));
    }
    if let Some(folder) = scope.folder_id {
        parts.push(format!("folder {folder}"));
    }
    match scope.file_ids.as_deref() {
        Some([one]) => parts.push(format!("file {one}")),
        Some(files) => {
            parts.push(count(u64::try_from(files.len()).unwrap_or(u64::MAX), "file"));
        }
        None => {}
    }
    if scope.retry_failed {
        parts.push("including previously failed copies".to_owned());
    }
    if parts.is_empty() { "everything".to_owned() } else { parts.join(", ") }
}

/// All details of one run.
pub(crate) fn details(view: &RunView, look: TextStyle) -> String {
    let run = &view.run;
    let mut facts = vec![
        ("run", run.id.to_string()),
        ("status", status(view, look)),
        ("requested by", run.trigger.to_string()),
        ("scope", scope(run)),
        ("copied", progress(run)),
        ("requested at", look.zone.show(run.created_at)),
    ];
    if let Some(at) = run.started_at {
        facts.push(("started", look.zone.show(at)));
    }
    if let Some(at) = run.finished_at {
        facts.push(("ended", look.zone.show(at)));
    }
    if let Some(took) = duration(run) {
        let rate = bytes::rate(unsigned(run.bytes_done), took);
        facts.push(("duration", format!("{} ({rate})", time::span(took))));
    }
    if let Some(at) = view.next_batch_at {
        facts.push(("next batch", look.zone.show(at)));
    }
    if let Some(error) = &run.error {
        facts.push(("error", plain(error)));
    }
    pairs(&facts)
}

fn status(view: &RunView, look: TextStyle) -> String {
    let run = &view.run;
    let status = look.state(run.status.as_str());
    if run.status.is_active() && run.cancel_requested_at.is_some() {
        return format!("{status}, being cancelled: transfers in flight finish");
    }
    if let Some(at) = view.window_opens_at {
        return format!("{status}, waiting for the window, which opens at {}", look.zone.show(at));
    }
    match run.status {
        RunStatus::Queued => format!("{status}, waiting for a worker"),
        RunStatus::Partial => format!("{status}: some files were copied, some failed"),
        _ => status,
    }
}

/// Runs as a table, in the order given.
pub(crate) fn list(runs: &[RunView], look: TextStyle) -> String {
    table(
        "RUN | STATUS | BY | STARTED | > DURATION | > FILES | > FAILED | > BYTES",
        runs.iter().map(|view| &view.run),
        |run| {
            [
                run.id.to_string(),
                look.state(run.status.as_str()),
                run.trigger.to_string(),
                look.zone.show_or_dash(run.started_at),
                duration(run).map_or_else(|| "-".to_owned(), time::span),
                grouped(unsigned(run.files_done)),
                grouped(unsigned(run.files_failed)),
                bytes::human(unsigned(run.bytes_done)),
            ]
        },
    )
}

/// The failures of a run, as a table, with the time from which a later run retries them.
pub(crate) fn failures(failures: &[RunFailure], look: TextStyle) -> String {
    table("FILE | ID | STORE | > ATTEMPTS | RETRY | ERROR", failures, |failure| {
        [
            failure.filename.as_deref().map_or_else(|| "(deleted since)".to_owned(), plain),
            failure.file_id.map_or_else(|| "-".to_owned(), |file| file.to_string()),
            failure.store.clone(),
            failure.attempts.to_string(),
            look.zone.show_or_dash(failure.retry_at),
            plain(&failure.error),
        ]
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use chrono::{DateTime, TimeDelta};
    use nightferry_core::db::enums::RunTrigger;
    use nightferry_core::db::runs::RunScope;

    use super::*;
    use crate::format::time::Zone;

    const LOOK: TextStyle = TextStyle { color: false, zone: Zone::Utc };

    /// A run that ended with failures.
    pub(crate) fn partial() -> Run {
        let at = DateTime::from_timestamp(1_795_219_200, 0).unwrap();
        Run {
            id: "0199f0a0-0000-7000-8000-000000000001".parse().unwrap(),
            trigger: RunTrigger::Cli,
            requested_by: None,
            tick: None,
            scope: serde_json::to_value(RunScope { retry_failed: true, ..RunScope::default() }).unwrap(),
            status: RunStatus::Partial,
            files_total: 2_000,
            files_done: 1_997,
            files_failed: 3,
            bytes_total: 32_768_000,
            bytes_done: 32_718_848,
            error: None,
            created_at: at,
            started_at: Some(at + TimeDelta::milliseconds(350)),
            cancel_requested_at: None,
            finished_at: Some(at + TimeDelta::milliseconds(83_350)),
        }
    }

    fn view(run: Run) -> RunView {
        RunView::of_row(run)
    }

    #[test]
    fn details_of_a_run_that_ended_partial() {
        insta::assert_snapshot!(details(&view(partial()), LOOK));
    }

    #[test]
    fn details_of_a_run_that_is_being_cancelled() {
        let at = partial().started_at;
        let run = Run {
            status: RunStatus::Running,
            files_done: 12,
            files_failed: 0,
            bytes_done: 196_608,
            finished_at: None,
            cancel_requested_at: at,
            scope: serde_json::json!({ "file_ids": ["0199f0a0-0000-7000-8000-00000000000f"] }),
            ..partial()
        };
        insta::assert_snapshot!(details(&RunView { next_batch_at: at, window_opens_at: None, run }, LOOK));
    }

    #[test]
    fn a_run_that_waits_for_the_window_shows_when_it_opens() {
        let run = Run { status: RunStatus::Running, finished_at: None, ..partial() };
        let opens = run.started_at.map(|at| at + TimeDelta::hours(20));
        let text = details(&RunView { run, next_batch_at: opens, window_opens_at: opens }, LOOK);
        assert!(text.contains("running, waiting for the window, which opens at 2026-"), "{text}");
    }

    #[test]
    fn runs_as_a_table() {
        let queued = Run {
            status: RunStatus::Queued,
            trigger: RunTrigger::Schedule,
            files_done: 0,
            files_failed: 0,
            bytes_done: 0,
            started_at: None,
            finished_at: None,
            ..partial()
        };
        insta::assert_snapshot!(list(&[view(queued), view(partial())], LOOK));
    }

    #[test]
    fn failures_as_a_table() {
        let failure = RunFailure {
            id: "0199f0a0-0000-7000-8000-000000000002".parse().unwrap(),
            object_id: "0199f0a0-0000-7000-8000-000000000003".parse().unwrap(),
            file_id: Some("0199f0a0-0000-7000-8000-000000000004".parse().unwrap()),
            filename: Some("re\nport.pdf".to_owned()),
            store: "s3".to_owned(),
            attempts: 5,
            error: "store s3: PutObject returned AccessDenied (HTTP 403)".to_owned(),
            created_at: partial().created_at,
            retry_at: Some("2026-01-02T03:04:05Z".parse().unwrap()),
        };
        let deleted =
            RunFailure { file_id: None, filename: None, attempts: 1, retry_at: None, ..failure.clone() };
        insta::assert_snapshot!(failures(&[failure, deleted], LOOK));
    }
}
