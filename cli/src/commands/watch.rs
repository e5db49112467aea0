//! What a pass over the stores shows while it goes on: a line that changes on a terminal, now and then a line elsewhere,
//! nothing when quiet; and how Ctrl-C ends it in order.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::errors::Exit;
use crate::output::Output;

/// Between two lines in a pipe.
const LINE_PAUSE: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(120);

/// See the module.
pub(crate) enum Watch {
    Bar(ProgressBar),
    Lines { output: Output, next: Instant },
    Nothing,
}

impl Watch {
    /// In the form that suits where standard error leads.
    pub(crate) fn new(output: &Output) -> Self {
        if output.draws_progress() {
            let bar = ProgressBar::new_spinner();
            // The template is fixed and good; a spinner of another look is still a spinner.
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

    /// How far it is.
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

    /// Takes the line away: what follows is the result.
    pub(crate) fn clear(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

/// Cancelled by Ctrl-C. A second one does not wait for the orderly end.
pub(crate) fn stop_on_ctrl_c() -> CancellationToken {
    let stop = CancellationToken::new();
    // Where Ctrl-C cannot be listened to, it ends the process as ever.
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
