//! The loop that makes copies outside of the runs, with the same slots, leases and stores: back into a local store when
//! somebody wants them, beside another local copy, away from a store that is being emptied. It waits for no schedule.

use std::time::{Duration, Instant};

use nightferry_core::error::Result;
use nightferry_core::ids::WorkerId;
use nightferry_core::tiering::claim;
use tokio::task::{JoinError, JoinSet};

use crate::heartbeat::Activity;
use crate::item::{self, Workbench};
use crate::leases::Leases;
use crate::transfer_loop::patience;
use crate::wake::Wake;

/// Without a notification the loop looks this often.
const IDLE: Duration = Duration::from_secs(5);
/// While a store is out of order, or copies are in flight, it looks this often.
const WAITING: Duration = Duration::from_millis(500);

/// Runs until the worker drains; what is in flight then has the grace time.
pub(crate) async fn run(bench: Workbench, worker: WorkerId, wake: Wake, activity: Activity, leases: Leases) {
    let mut in_flight = JoinSet::new();
    while !bench.draining.is_cancelled() {
        let pause = match claim_more(&bench, worker, &leases, &mut in_flight).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "copies that are wanted back cannot be claimed, trying again");
                WAITING
            }
        };
        activity.set_fetching(!in_flight.is_empty());
        tokio::select! {
            () = bench.draining.cancelled() => {}
            () = wake.wait(pause) => {}
            Some(ended) = in_flight.join_next() => over(ended),
        }
    }
    let all_done = async { while in_flight.join_next().await.is_some() {} };
    if tokio::time::timeout(bench.context.config.tiering.shutdown_grace, all_done).await.is_err() {
        bench.grace_over.cancel();
        while in_flight.join_next().await.is_some() {}
    }
}

/// Claims what there is room for. Answers how long to wait before the next look.
async fn claim_more(
    bench: &Workbench,
    worker: WorkerId,
    leases: &Leases,
    in_flight: &mut JoinSet<()>,
) -> Result<Duration> {
    while let Some(ended) = in_flight.try_join_next() {
        over(ended);
    }
    let tiering = &bench.context.config.tiering;
    loop {
        let room = tiering.concurrency.saturating_sub(in_flight.len());
        let most = room.min(usize::try_from(tiering.batch_size).unwrap_or(1));
        if most == 0 {
            return Ok(WAITING);
        }
        let started = Instant::now();
        let batch = claim::next_fetches(&bench.context, worker, most).await?;
        if batch.claims.is_empty() {
            let out = !bench.context.stores.health().out().is_empty();
            return Ok(patience(if out { WAITING } else { IDLE }, out, started.elapsed()));
        }
        for claim in batch.claims {
            let held = leases.hold(batch.token);
            in_flight.spawn(item::process(bench.clone(), None, held, claim));
        }
    }
}

fn over(ended: std::result::Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(target: "nightferry::sync", %error, "a copy ended badly; its lease runs out and it is made again");
    }
}
