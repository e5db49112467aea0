//! Warns, once per run, if its remaining work does not fit the transfer window.

use std::time::{Duration, Instant};

use nightferry_core::context::Context;
use nightferry_core::error::Result;
use nightferry_core::ids::RunId;
use nightferry_core::tiering::forecast;

/// Minimum interval between two checks of the same run.
const POLL_INTERVAL: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct ForecastWarning {
    looked: Option<(RunId, Instant)>,
    warned: Option<RunId>,
}

impl ForecastWarning {
    /// Checks the run at intervals. A failed check is repeated later, without affecting the run.
    pub(crate) async fn refresh(&mut self, context: &Context, run: RunId) {
        let fresh = |(seen, at): (RunId, Instant)| seen == run && at.elapsed() < POLL_INTERVAL;
        if context.config.tiering.window.is_always()
            || self.warned == Some(run)
            || self.looked.is_some_and(fresh)
        {
            return;
        }
        self.looked = Some((run, Instant::now()));
        if let Err(error) = self.look(context, run).await {
            tracing::warn!(%error, "cannot estimate the duration of the run");
        }
    }

    async fn look(&mut self, context: &Context, run: RunId) -> Result<()> {
        let mut conn = context.db.conn().await?;
        let Some(forecast) = forecast::of_active(context, &mut conn).await? else { return Ok(()) };
        if forecast.run == run && forecast.exceeds_window() {
            self.warned = Some(run);
            let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs();
            tracing::warn!(target: "nightferry::sync", %run, files = forecast.files, bytes = forecast.bytes, needs_seconds = seconds(forecast.needs), window_seconds = seconds(forecast.window), "the \
                rest of the run does not fit the transfer window at the rate of recent runs");
        }
        Ok(())
    }
}
