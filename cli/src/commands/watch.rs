//! Progress of a pass over the stores: a changing line on a terminal, occasional lines elsewhere, nothing when quiet.
//! Also handles Ctrl-C.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use nightferry_core::error::Result as CoreResult;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::App;
use crate::errors::{Exit, Failure};
use crate::format::table::table;
use crate::output::Output;

/// Interval between two lines in a pipe.
pub(crate) const LINE_PAUSE: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(120);
/// Polling interval while waiting for the end of a drain or a rebalancing.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum number of findings to show.
const SHOWN: usize = 1000;

/// Shows the progress of a pass.
pub(crate) struct Watch {
    bar: Option<ProgressBar>,
    output: Output,
    next: Instant,
}

impl Watch {
    pub(crate) fn new(output: &Output) -> Self {
        let bar = bar(output, style("{spinner} {msg}  {elapsed}"));
        Self { bar, output: output.clone(), next: Instant::now() + LINE_PAUSE }
    }

    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text());
        } else if Instant::now() >= self.next {
            self.output.note(&text());
            self.next = Instant::now() + LINE_PAUSE;
        }
    }

    /// Removes the line before the result is printed.
    pub(crate) fn clear(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

/// A bar, if standard error can show one.
pub(crate) fn bar(output: &Output, style: ProgressStyle) -> Option<ProgressBar> {
    output.draws_progress().then(|| {
        let bar = ProgressBar::new_spinner();
        bar.set_style(style);
        bar.enable_steady_tick(TICK);
        bar
    })
}

/// The templates are constant and valid; a fallback to the default style is acceptable.
pub(crate) fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Polls until the work `is_finished`, or until Ctrl-C. `look` returns an error if it was stopped, and nothing if it has not
/// changed.
pub(crate) async fn wait_until_finished<T>(
    app: &App,
    mut state: T,
    is_finished: impl Fn(&T) -> bool,
    text: impl Fn(&T) -> String,
    look: impl AsyncFn() -> CoreResult<Result<Option<T>, Failure>>,
    interrupted: impl FnOnce(Failure) -> Failure,
) -> Result<T, Failure> {
    let (mut watch, stop) = (Watch::new(&app.output), stop_on_ctrl_c());
    let ended = loop {
        if is_finished(&state) {
            break Ok(state);
        }
        watch.show(|| text(&state));
        if stop.run_until_cancelled(tokio::time::sleep(POLL_INTERVAL)).await.is_none() {
            break Err(interrupted(Failure::new(Exit::Interrupted, "interrupted", "Stopped waiting")));
        }
        match look().await {
            Ok(Ok(now)) => state = now.unwrap_or(state),
            Ok(Err(failure)) => break Err(failure),
            Err(error) => app.output.detail(&format!("the database is unavailable: {error}")),
        }
    };
    watch.clear();
    ended
}

/// Adds a finding to those that are shown; the summary counts all of them.
pub(crate) fn add_finding<T>(found: &mut Vec<T>, more: &mut bool, finding: T) {
    if found.len() < SHOWN { found.push(finding) } else { *more = true }
}

/// A summary and the table of what was found, if anything.
pub(crate) fn with_findings<T, const N: usize>(
    summary: String,
    (found, more): (&[T], bool),
    headings: &str,
    cells: impl FnMut(&T) -> [String; N],
) -> String {
    if found.is_empty() {
        return summary;
    }
    let more = if more { format!("\nonly the first {SHOWN} are shown") } else { String::new() };
    format!("{summary}\n\n{}{more}", table(headings, found, cells))
}

/// The failure of a pass that another process is already doing.
pub(crate) fn busy(act: &str, doing: &str) -> Failure {
    Failure::new(Exit::Conflict, "conflict", format!("Cannot {act}"))
        .because(format!("another process is {doing} now"))
        .advise("wait until it has ended; the lease of a dead process expires after tiering.lease")
}

/// Cancelled by Ctrl-C. A second Ctrl-C does not wait for the graceful end.
pub(crate) fn stop_on_ctrl_c() -> CancellationToken {
    let stop = CancellationToken::new();
    // If listening for Ctrl-C fails, it terminates the process as usual.
    let Ok(mut requests) = signal(SignalKind::interrupt()) else { return stop };
    let stopping = stop.clone();
    tokio::spawn(async move {
        requests.recv().await;
        stopping.cancel();
        requests.recv().await;
        std::process::exit(Exit::Interrupted.number().into());
    });
    stop
}
