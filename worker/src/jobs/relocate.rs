//! Drains stores and rebalances the local stores on request of an operator, by one worker at a time each.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nightferry_core::context::Context;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::relocate::{Kind, Outcome, Relocation};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

/// Delay before the next pass over a relocation that could not move anything.
const WAITING: Duration = Duration::from_secs(3);
/// Delay before the next pass over a relocation that has finished: copies in progress to a drained store may arrive
/// late.
const FINISHED: Duration = Duration::from_secs(60);

/// When the next pass of this worker over each relocation is due, by store.
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

/// One pass over each relocation of a kind that is due, until `stop`. Failures are retried in the next pass.
pub(crate) async fn relocate(
    context: Context,
    kind: Kind,
    worker: WorkerId,
    pace: Arc<Mutex<Pace>>,
    stop: CancellationToken,
) {
    if super::is_catalogue_lost(&context) {
        return;
    }
    let relocations = match Relocation::all(&context, kind).await {
        Ok(relocations) => relocations,
        Err(error) => {
            tracing::warn!(?kind, %error, "cannot read the relocations; retrying");
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
                tracing::warn!(target: "nightferry::sync", ?kind, store = relocation.store(), %error, "a relocation was interrupted; the next pass continues");
                WAITING
            }
        };
        pace.postpone(&relocation, pause);
    }
}
