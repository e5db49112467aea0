//! Warns, once for each run, that what is left of it does not fit the transfer window.

use std::time::{Duration, Instant};

use nightferry_core::context::Context;
use nightferry_core::error::Result;
use nightferry_core::ids::RunId;
use nightferry_core::tiering::forecast;

/// Between two looks at the same run.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Outlook {
    looked: Option<(RunId, Instant)>,
    warned: Option<RunId>,
}

impl Outlook {
    /// Looks at the run, now and then. What cannot be looked at is looked at later: the run goes on.
    pub(crate) async fn mind(&mut self, context: &Context, run: RunId) {
        let fresh = |(seen, at): (RunId, Instant)| seen == run && at.elapsed() < LOOK_EVERY;
        if context.config.tiering.window.is_always()
            || self.warned == Some(run)
            || self.looked.is_some_and(fresh)
        {
            return;
        }
        self.looked = Some((run, Instant::now()));
        match self.look(context, run).await {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "how long the run takes could not be estimated"),
        }
    }

    async fn look(&mut self, context: &Context, run: RunId) -> Result<()> {
        let mut conn = context.db.conn().await?;
        let Some(forecast) = forecast::of_active(context, &mut conn).await? else { return Ok(()) };
        if forecast.run == run && forecast.exceeds_window() {
            self.warned = Some(run);
            let seconds = |time: Option<Duration>| time.unwrap_or_default().as_secs();
            tracing::warn!(target: "nightferry::sync", %run, files = forecast.files, bytes = forecast.bytes, needs_seconds = seconds(forecast.needs), window_seconds = seconds(forecast.window), "what is left of the run does not fit the transfer window at the rate of recent runs");
        }
        Ok(())
    }
}
