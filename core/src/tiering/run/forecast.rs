//! Estimates how long the rest of the active run takes at the rate of recent runs, and whether that fits the window.
//! For display and alerts only: no decision depends on it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;

use crate::config::TieringConfig;
use crate::context::Context;
use crate::db::enums::{RunStatus, RunTrigger};
use crate::db::runs::{self, Run};
use crate::db::unsigned;
use crate::error::Result;
use crate::ids::RunId;
use crate::tiering::window;

/// The number of recent runs considered.
const RUNS: i64 = 5;

/// The estimated duration of the rest of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// The active run.
    pub run: RunId,
    /// Files left to copy.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The estimated time; `None` if no run has been measured yet.
    pub needs: Option<Duration>,
    /// How long the window is open: the rest of the current one, or the next one. `None` without a window.
    pub window: Option<Duration>,
}

impl Forecast {
    /// Whether the window closes before the run ends.
    pub fn exceeds_window(&self) -> bool {
        matches!((self.needs, self.window), (Some(needs), Some(window)) if needs > window)
    }
}

/// The forecast of the running run, if any.
pub async fn of_active(context: &Context, conn: &mut AsyncPgConnection) -> Result<Option<Forecast>> {
    let Some(run) = runs::active(conn).await?.filter(|run| run.status == RunStatus::Running) else {
        return Ok(None);
    };
    let files = unsigned(run.files_total - run.files_done - run.files_failed);
    let bytes = if files == 0 { 0 } else { unsigned(run.bytes_total - run.bytes_done) };
    let needs = needs(context, conn, files, bytes).await?;
    let window = window_left(&context.config.tiering, run.trigger, context.clock.now());
    Ok(Some(Forecast { run: run.id, files, bytes, needs, window }))
}

/// How long this number of files and bytes takes at the rate of recent runs; `None` if no run has been measured yet.
pub async fn needs(
    context: &Context,
    conn: &mut AsyncPgConnection,
    files: u64,
    bytes: u64,
) -> Result<Option<Duration>> {
    let tiering = &context.config.tiering;
    let recent: Vec<Measured> =
        runs::measured(conn, RUNS).await?.iter().filter_map(|run| Measured::of(tiering, run)).collect();
    Ok(time_for(files, bytes, &recent))
}

/// The work of a run, and its duration.
#[derive(Debug, Clone, Copy)]
struct Measured {
    files: u64,
    bytes: u64,
    time: Duration,
}

impl Measured {
    fn of(tiering: &TieringConfig, run: &Run) -> Option<Self> {
        let (from, to) = (run.started_at?, run.finished_at?);
        let time = if window::holds_for(tiering, run.trigger) {
            tiering.window.open_between(from, to, tiering.time_zone)
        } else {
            (to - from).to_std().ok()?
        };
        let time = time.max(Duration::from_millis(1));
        Some(Self { files: unsigned(run.files_done), bytes: unsigned(run.bytes_done), time })
    }
}

/// A run is limited by the number of its files or by their bytes: each estimated at the best rate of a recent run, of
/// which the longer is returned.
fn time_for(files: u64, bytes: u64, recent: &[Measured]) -> Option<Duration> {
    let at_best = |amount: u64, of: fn(&Measured) -> u64| {
        let times = recent.iter().filter_map(|run| {
            let millis = run.time.as_millis().saturating_mul(u128::from(amount));
            millis.checked_div(u128::from(of(run)))
        });
        times.min().map(|millis| Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)))
    };
    at_best(files, |run| run.files).max(at_best(bytes, |run| run.bytes))
}

fn window_left(tiering: &TieringConfig, trigger: RunTrigger, now: DateTime<Utc>) -> Option<Duration> {
    if !window::holds_for(tiering, trigger) {
        return None;
    }
    let (window, zone) = (&tiering.window, tiering.time_zone);
    let from = window.opens_at(now, zone).unwrap_or(now);
    (window.closes_at(from, zone)? - from).to_std().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Measured = Measured { files: 1000, bytes: 1_000_000, time: Duration::from_secs(10) };
    const LARGE: Measured = Measured { files: 2, bytes: 1_000_000_000, time: Duration::from_secs(10) };

    #[test]
    fn the_estimate_equals_the_duration_of_an_equal_run() {
        assert_eq!(time_for(2000, 2_000_000, &[SMALL, LARGE]), Some(Duration::from_secs(20)));
        assert_eq!(time_for(4, 2_000_000_000, &[SMALL, LARGE]), Some(Duration::from_secs(20)));
    }

    #[test]
    fn no_work_takes_no_time_and_without_measurements_there_is_no_estimate() {
        assert_eq!(time_for(0, 0, &[SMALL]), Some(Duration::ZERO));
        assert_eq!(time_for(5, 5, &[]), None);
        let empty = Measured { bytes: 0, ..SMALL };
        assert_eq!(
            time_for(1000, 0, &[empty]),
            Some(Duration::from_secs(10)),
            "empty files have no rate of bytes"
        );
    }

    #[test]
    fn a_window_is_only_exceeded_if_configured() {
        let hour = Some(Duration::from_secs(3600));
        let forecast = |needs, window| Forecast { run: RunId::new(), files: 1, bytes: 1, needs, window };
        assert!(forecast(hour, Some(Duration::from_secs(3599))).exceeds_window());
        assert!(!forecast(hour, hour).exceeds_window());
        assert!(!forecast(hour, None).exceeds_window());
        assert!(!forecast(None, hour).exceeds_window());
    }
}
