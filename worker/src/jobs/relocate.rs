//! Drains stores and rebalances the local ones when an operator wants it; of all workers one at a time does each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nightferry_core::context::Context;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::relocate::{Kind, Outcome, Relocation};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Before the next look at one of which nothing could be moved.
const WAITING: Duration = Duration::from_secs(3);
/// Before the next look at one that has finished: what was under way to a drained store may arrive late.
const FINISHED: Duration = Duration::from_secs(60);

/// When this worker looks at each relocation again, by store.
#[derive(Debug, Default)]
pub(crate) struct Pace(HashMap<Option<String>, (DateTime<Utc>, Instant)>);

impl Pace {
    fn is_due(&self, relocation: &Relocation) -> bool {
        self.0
            .get(&relocation.store().map(str::to_owned))
            .is_none_or(|(asked_at, next)| *asked_at != relocation.asked_at() || *next <= Instant::now())
    }

    fn postpone(&mut self, relocation: &Relocation, pause: Duration) {
        let store = relocation.store().map(str::to_owned);
        self.0.insert(store, (relocation.asked_at(), Instant::now() + pause));
    }
}

/// One pass over each relocation of a kind that is due, broken off at `stop`. Failures wait for the next one.
pub(crate) async fn relocate(
    context: Context,
    kind: Kind,
    worker: WorkerId,
    pace: Arc<Mutex<Pace>>,
    stop: CancellationToken,
) {
    let relocations = match Relocation::all(&context, kind).await {
        Ok(relocations) => relocations,
        Err(error) => {
            tracing::warn!(?kind, %error, "what is to be relocated could not be read, trying again");
            return;
        }
    };
    let mut pace = pace.lock().await;
    for relocation in relocations {
        if stop.is_cancelled() || !pace.is_due(&relocation) {
            continue;
        }
        let started = Instant::now();
        let pause = match relocation.pass(&context, worker, &stop).await {
            Ok(Outcome::Moved) => Duration::ZERO,
            // A slow pass that found nothing to do is not repeated often.
            Ok(Outcome::Waiting) => WAITING.max(started.elapsed() * 10),
            Ok(Outcome::Elsewhere) => WAITING,
            Ok(Outcome::Finished) => FINISHED,
            Err(error) => {
                tracing::warn!(target: "nightferry::sync", ?kind, store = relocation.store(), %error, "a relocation broke off, the next pass goes on");
                WAITING
            }
        };
        pace.postpone(&relocation, pause);
    }
}
