//! Heartbeats, renewal of leases, and reclaiming the leases of dead workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use nightferry_core::context::Context;
use nightferry_core::tiering::claim::{self, Identity};
use nightferry_core::tiering::reap;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::leases::Leases;

/// The activity of the worker, as shown to operators.
#[derive(Debug, Clone, Default)]
pub(crate) struct Activity {
    working: Arc<AtomicBool>,
    fetching: Arc<AtomicBool>,
    draining: Arc<AtomicBool>,
}

impl Activity {
    pub(crate) fn set_working(&self, working: bool) {
        self.working.store(working, Ordering::Relaxed);
    }

    pub(crate) fn set_fetching(&self, fetching: bool) {
        self.fetching.store(fetching, Ordering::Relaxed);
    }

    pub(crate) fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn as_str(&self) -> &'static str {
        if self.draining.load(Ordering::Relaxed) {
            "draining"
        } else if self.working.load(Ordering::Relaxed) || self.fetching.load(Ordering::Relaxed) {
            "working"
        } else {
            "idle"
        }
    }
}

/// Sends heartbeats until `drained`.
pub(crate) async fn run(
    context: Context,
    identity: Identity,
    activity: Activity,
    leases: Leases,
    drained: CancellationToken,
) {
    let mut beat = tokio::time::interval(context.config.tiering.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = drained.cancelled() => return,
            _ = beat.tick() => {}
        }
        let (tokens, at) = (leases.tokens(), Instant::now());
        match claim::heartbeat(&context, &identity, activity.as_str(), &tokens).await {
            Ok(renewed) => leases.renewed(&tokens, &renewed, at),
            Err(error) => {
                tracing::warn!(%error, "cannot write the heartbeat to the database");
                continue;
            }
        }
        match reap::leases(&context).await {
            Ok(0) => {}
            Ok(count) => {
                tracing::warn!(target: "nightferry::sync", count, "leases expired: their copies are queued \
                    again");
            }
            Err(error) => tracing::warn!(%error, "cannot reclaim expired leases"),
        }
        if let Err(error) = reap::counts(&context).await {
            tracing::warn!(%error, "cannot add up the counts of replicas");
        }
    }
}
