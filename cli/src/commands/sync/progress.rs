//! The progress of a followed run: a bar on a terminal, occasional lines elsewhere, nothing when quiet. All output goes
//! to standard error.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use nightferry_core::db::enums::RunStatus;
use nightferry_core::db::runs::Run;
use nightferry_core::db::unsigned;

use crate::commands::watch::{LINE_PAUSE, bar, style};
use crate::format::{self, bytes, count, grouped, time};
use crate::output::Output;

/// The remaining time is estimated once this fraction of the bytes has been transferred: the first small files are not
/// representative.
const MIN_ETA_FRACTION: i64 = 20;

/// The current content of the bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Waiting,
    Begun,
    Moving,
}

impl Phase {
    fn of(run: &Run) -> Self {
        match run.status {
            RunStatus::Queued => Self::Waiting,
            _ if run.bytes_done < run.bytes_total / MIN_ETA_FRACTION => Self::Begun,
            _ => Self::Moving,
        }
    }

    const fn template(self) -> &'static str {
        match self {
            Self::Waiting => "{spinner} {msg}  {elapsed}",
            Self::Begun => "{spinner} [{bar:28}] {binary_bytes} of {binary_total_bytes}  {msg}  {elapsed}",
            Self::Moving => {
                "{spinner} [{bar:28}] {binary_bytes} of {binary_total_bytes}  {binary_bytes_per_sec}  {msg}  ETA {eta}"
            }
        }
    }

    fn style(self) -> ProgressStyle {
        style(self.template()).progress_chars("=> ")
    }
}

pub(super) struct Progress {
    bar: Option<ProgressBar>,
    phase: Phase,
    lines: Lines,
}

impl Progress {
    pub(super) fn new(output: &Output) -> Self {
        let phase = Phase::Waiting;
        Self { bar: bar(output, phase.style()), phase, lines: Lines::default() }
    }

    pub(super) fn show(&mut self, run: &Run, output: &Output) {
        let Some(bar) = &self.bar else {
            if let Some(line) = self.lines.next(run, Instant::now()) {
                output.note(&line);
            }
            return;
        };
        let now = Phase::of(run);
        if self.phase == Phase::Waiting && now != Phase::Waiting {
            // The rate of the transfer, excluding the wait for a worker.
            bar.reset_eta();
        }
        if self.phase != now {
            self.phase = now;
            bar.set_style(now.style());
        }
        bar.set_message(message(run));
        bar.set_length(unsigned(run.bytes_total));
        bar.set_position(unsigned(run.bytes_done));
    }

    /// Prints a message without breaking the bar.
    pub(super) fn aside(&self, say: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(say),
            None => say(),
        }
    }

    /// Removes the bar before the result is printed.
    pub(super) fn clear(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}

fn message(run: &Run) -> String {
    if run.cancel_requested_at.is_some() {
        return "being cancelled: transfers in flight finish".to_owned();
    }
    if run.status == RunStatus::Queued {
        return "waiting for a worker".to_owned();
    }
    let files =
        format!("{} of {}", grouped(unsigned(run.files_done)), count(unsigned(run.files_total), "file"));
    match unsigned(run.files_failed) {
        0 => files,
        failed => format!("{files}, {} failed", grouped(failed)),
    }
}

/// Lines for a pipe or a log: only on change, and rate-limited.
#[derive(Default)]
pub(super) struct Lines {
    last: Option<(String, Instant)>,
    began: Option<(u64, Instant)>,
}

impl Lines {
    fn next(&mut self, run: &Run, now: Instant) -> Option<String> {
        let state = if run.status.is_active() {
            format!("run {} {}: {}", run.id, run.status, what(run))
        } else {
            // The outcome is the result, which is printed elsewhere.
            return None;
        };
        match &self.last {
            Some((text, at)) if *text == state || now.duration_since(*at) < LINE_PAUSE => return None,
            _ => {}
        }
        self.last = Some((state.clone(), now));
        Some(format!("{state}{}", self.pace(run, now)))
    }

    /// `, 12.0 MiB/s, about 3 min left`, once it can be estimated.
    fn pace(&mut self, run: &Run, now: Instant) -> String {
        let done = unsigned(run.bytes_done);
        if run.status != RunStatus::Running {
            return String::new();
        }
        let (first, began) = *self.began.get_or_insert((done, now));
        let rate = bytes::per_second(done.saturating_sub(first), now.duration_since(began));
        if done <= first || rate == 0 {
            return String::new();
        }
        let pace = format!(", {}/s", bytes::human(rate));
        let total = unsigned(run.bytes_total);
        if run.cancel_requested_at.is_some() || done - first < unsigned(run.bytes_total / MIN_ETA_FRACTION) {
            return pace;
        }
        let left = Duration::from_secs(total.saturating_sub(done) / rate);
        format!("{pace}, about {} left", time::span(left.max(Duration::from_secs(1))))
    }
}

fn what(run: &Run) -> String {
    if run.cancel_requested_at.is_some() {
        return format!("being cancelled, {}", format::run::progress(run));
    }
    match run.status {
        RunStatus::Queued => "waiting for a worker".to_owned(),
        _ => format::run::progress(run),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::run::tests::partial;

    fn running(files: i64, bytes: i64) -> Run {
        Run {
            status: RunStatus::Running,
            files_done: files,
            files_failed: 0,
            bytes_done: bytes,
            finished_at: None,
            ..partial()
        }
    }

    #[test]
    fn lines_come_on_change_and_not_too_often() {
        let mut lines = Lines::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut told = Vec::new();
        told.extend(lines.next(&Run { status: RunStatus::Queued, ..running(0, 0) }, at(0)));
        assert_eq!(lines.next(&running(0, 0), at(1)), None, "too soon");
        told.extend(lines.next(&running(0, 0), at(3)));
        assert_eq!(lines.next(&running(0, 0), at(60)), None, "nothing changed");
        told.extend(lines.next(&running(1_000, 16_384_000), at(63)));
        assert_eq!(lines.next(&partial(), at(90)), None, "the end is reported separately");
        insta::assert_snapshot!(told.join("\n"));
    }
}
