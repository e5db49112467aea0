//! Evens out the local stores when an operator wants it; of all workers one at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nightferry_core::context::Context;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::rebalance::{self, Outcome};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Before the next look when nothing could be moved.
const WAITING: Duration = Duration::from_secs(3);

/// When this worker looks again at what was asked for, or called off, then.
#[derive(Debug, Default)]
pub(crate) struct RebalancePace(Option<(DateTime<Utc>, Instant)>);

/// One look if one is due, broken off at `stop`. Failures wait for the next one.
pub(crate) async fn rebalance(
    context: Context,
    worker: WorkerId,
    pace: Arc<Mutex<RebalancePace>>,
    stop: CancellationToken,
) {
    let wanted = match rebalance::under_way(&context).await {
        Ok(Some(wanted)) => wanted,
        Ok(None) => return,
        Err(error) => {
            tracing::warn!(%error, "whether the stores are to be evened out could not be read, trying again");
            return;
        }
    };
    let mut pace = pace.lock().await;
    let asked = wanted.stopped_at.unwrap_or(wanted.requested_at);
    let is_due = pace.0.is_none_or(|(known, next)| known != asked || next <= Instant::now());
    if stop.is_cancelled() || !is_due {
        return;
    }
    let started = Instant::now();
    let pause = match rebalance::pass(&context, &wanted, worker, &stop).await {
        Ok(Outcome::Moved) => Duration::ZERO,
        // A long look that found nothing to do is not worth repeating all the time.
        Ok(Outcome::Waiting) => WAITING.max(started.elapsed() * 10),
        Ok(Outcome::Elsewhere) => WAITING,
        Err(error) => {
            tracing::warn!(target: "nightferry::sync", %error, "evening out the stores broke off, the next look goes on");
            WAITING
        }
    };
    pace.0 = Some((asked, Instant::now() + pause));
}
