//! Progress of a pass over the stores: a changing line on a terminal, occasional lines elsewhere, nothing when quiet.
//! Also handles Ctrl-C.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::errors::Exit;
use crate::output::Output;

/// Interval between two lines in a pipe.
const LINE_PAUSE: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(120);

/// Shows the progress of a pass.
pub(crate) enum Watch {
    Bar(ProgressBar),
    Lines { output: Output, next: Instant },
    Nothing,
}

impl Watch {
    /// Chooses the form that suits the destination of standard error.
    pub(crate) fn new(output: &Output) -> Self {
        if output.draws_progress() {
            let bar = ProgressBar::new_spinner();
            // The template is constant and valid; a fallback to the default style is acceptable.
            let style = ProgressStyle::with_template("{spinner} {msg}  {elapsed}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(TICK);
            return Self::Bar(bar);
        }
        if output.is_quiet() {
            return Self::Nothing;
        }
        Self::Lines { output: output.clone(), next: Instant::now() + LINE_PAUSE }
    }

    /// Shows the progress.
    pub(crate) fn show(&mut self, text: impl FnOnce() -> String) {
        match self {
            Self::Bar(bar) => bar.set_message(text()),
            Self::Lines { output, next } if Instant::now() >= *next => {
                output.note(&text());
                *next = Instant::now() + LINE_PAUSE;
            }
            Self::Lines { .. } | Self::Nothing => {}
        }
    }

    /// Removes the line before the result is printed.
    pub(crate) fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
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
