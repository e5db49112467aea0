//! The loop that makes copies outside of runs, with the same slots, leases and stores: prefetches, local replication,
//! drains and rebalancing. It ignores the schedule.

use std::time::{Duration, Instant};

use nightferry_core::error::Result;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::claim;
use nightferry_core::tiering::copy::CopyLease;
use tokio::task::JoinSet;

use crate::heartbeat::Activity;
use crate::item::{self, WorkerShared};
use crate::leases::Leases;
use crate::transfer_loop::idle_wait;
use crate::wake::Wake;

/// The polling interval without notifications.
const IDLE: Duration = Duration::from_secs(5);
/// The polling interval while a store is down or copies are in flight.
const WAITING: Duration = Duration::from_millis(500);

/// Runs until the worker shuts down; copies in flight then have the grace time.
pub(crate) async fn run(
    shared: WorkerShared,
    worker: WorkerId,
    wake: Wake,
    activity: Activity,
    leases: Leases,
) {
    let mut in_flight = JoinSet::new();
    while !shared.draining.is_cancelled() {
        let pause = match claim_more(&shared, worker, &leases, &mut in_flight).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "cannot claim on-demand copies; retrying");
                WAITING
            }
        };
        activity.set_fetching(!in_flight.is_empty());
        tokio::select! {
            () = shared.draining.cancelled() => {}
            () = wake.wait(pause) => {}
            Some(ended) = in_flight.join_next() => drop(item::finished(ended)),
        }
    }
    shared.drain(&mut in_flight).await;
}

/// Claims copies for the free slots. Returns how long to wait before the next poll.
async fn claim_more(
    shared: &WorkerShared,
    worker: WorkerId,
    leases: &Leases,
    in_flight: &mut JoinSet<()>,
) -> Result<Duration> {
    while let Some(ended) = in_flight.try_join_next() {
        item::finished(ended);
    }
    let tiering = &shared.context.config.tiering;
    loop {
        let room = tiering.concurrency.saturating_sub(in_flight.len());
        let most = room.min(usize::try_from(tiering.batch_size).unwrap_or(1));
        if most == 0 {
            return Ok(WAITING);
        }
        let started = Instant::now();
        let batch = claim::next_fetches(&shared.context, worker, most).await?;
        if batch.claims.is_empty() {
            let out = !shared.context.stores.health().out().is_empty();
            return Ok(idle_wait(if out { WAITING } else { IDLE }, out, started.elapsed()));
        }
        let claimed: Vec<CopyLease> = batch.claims.iter().map(|claim| batch.lease_of(claim)).collect();
        for (claim, lease) in batch.claims.into_iter().zip(claimed) {
            let held = leases.hold(lease);
            in_flight.spawn(item::process(shared.clone(), None, held, claim));
        }
    }
}
