//! Empties stores that an operator wants empty; of all workers one looks after each of them at a time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nightferry_core::context::Context;
use nightferry_core::db::drains::Drain;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::departure::{self, Outcome};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Before the next look at a store of which nothing could be moved.
const WAITING: Duration = Duration::from_secs(3);
/// Before the next look at one that is empty: what was under way to it when it was asked for may arrive late.
const EMPTY: Duration = Duration::from_secs(60);

/// When this worker looks at each store again.
#[derive(Debug, Default)]
pub(crate) struct DrainPace(HashMap<String, (DateTime<Utc>, Instant)>);

impl DrainPace {
    fn is_due(&self, drain: &Drain) -> bool {
        self.0
            .get(&drain.store)
            .is_none_or(|(requested, next)| *requested != drain.requested_at || *next <= Instant::now())
    }

    fn put_off(&mut self, drain: &Drain, pause: Duration) {
        self.0.insert(drain.store.clone(), (drain.requested_at, Instant::now() + pause));
    }
}

/// One look at each store that is due, broken off at `stop`. Failures wait for the next one.
pub(crate) async fn drain(
    context: Context,
    worker: WorkerId,
    pace: Arc<Mutex<DrainPace>>,
    stop: CancellationToken,
) {
    let drains = match departure::all(&context).await {
        Ok(drains) => drains,
        Err(error) => {
            tracing::warn!(%error, "which stores are to be emptied could not be read, trying again");
            return;
        }
    };
    let mut pace = pace.lock().await;
    for drain in drains {
        if stop.is_cancelled() || !pace.is_due(&drain) {
            continue;
        }
        let started = Instant::now();
        let pause = match departure::pass(&context, &drain.store, worker, &stop).await {
            Ok(Outcome::Moved) => Duration::ZERO,
            // A long look that found nothing to do is not worth repeating all the time.
            Ok(Outcome::Waiting) => WAITING.max(started.elapsed() * 10),
            Ok(Outcome::Elsewhere) => WAITING,
            Ok(Outcome::Empty) => EMPTY,
            Err(error) => {
                tracing::warn!(target: "nightferry::sync", store = drain.store, %error, "emptying a store broke off, the next look goes on");
                WAITING
            }
        };
        pace.put_off(&drain, pause);
    }
}
