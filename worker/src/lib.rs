//! The worker: schedule, claims, transfers and cleanup. Several can run at once, on one or several machines; they share
//! only Postgres. Contains no HTTP server; all rules about what is copied where are in `nightferry-core`.

mod committer;
mod fetch_loop;
mod forecast_warning;
mod heartbeat;
mod item;
mod jobs;
mod leases;
mod schedule;
mod transfer_loop;
mod wake;

use anyhow::Result;
use nightferry_core::ids::WorkerId;
use nightferry_core::object::health;
use nightferry_core::tiering::Engine;
use nightferry_core::tiering::claim::{self, Identity};
use nightferry_core::tiering::policy;
use tokio_util::sync::CancellationToken;

/// Works until `shutdown` is cancelled, then drains: nothing new is claimed, transfers in flight may finish within
/// `tiering.shutdown_grace`, and the others are requeued. Waits for the database if it is down.
///
/// # Errors
/// If the schedule cannot be started; later errors are logged and retried.
pub async fn run(engine: Engine, shutdown: CancellationToken) -> Result<()> {
    let context = engine.context.clone();
    let identity = Identity {
        id: WorkerId::new(),
        host: hostname(),
        pid: i32::try_from(std::process::id()).unwrap_or(0),
        version: env!("CARGO_PKG_VERSION"),
    };
    tracing::info!(target: "nightferry::sync", worker = %identity.id, host = identity.host, "worker \
        started");
    for warning in policy::warnings(&context.config) {
        tracing::warn!(target: "nightferry::sync", "{warning}");
    }
    let wake = wake::Wake::default();
    let fetch_wake = wake::Wake::default();
    let activity = heartbeat::Activity::default();
    let leases = leases::Leases::default();
    // Leases must be renewed until the last copy has ended, so the heartbeat outlives the shutdown.
    let drained = CancellationToken::new();
    let beating = tokio::spawn(heartbeat::run(
        context.clone(),
        identity.clone(),
        activity.clone(),
        leases.clone(),
        drained.clone(),
    ));
    let listening =
        tokio::spawn(wake::listen(context.clone(), [wake.clone(), fetch_wake.clone()], shutdown.clone()));
    let recovering =
        tokio::spawn(wake::ring_on_recovery(context.clone(), [wake.clone(), fetch_wake.clone()]));
    let watching = tokio::spawn(health::watch(context.clone(), "worker", shutdown.clone()));
    let ticker = schedule::start(&context, &wake, &identity, &shutdown).await?;

    transfer_loop::run(&engine, identity.id, &wake, &fetch_wake, &activity, &leases, &shutdown).await;

    ticker.stop().await;
    listening.abort();
    recovering.abort();
    if let Err(error) = watching.await {
        tracing::warn!(%error, "the task that checks the stores failed");
    }
    drained.cancel();
    if let Err(error) = beating.await {
        tracing::warn!(%error, "the heartbeat task failed");
    }
    if let Err(error) = claim::sign_off(&context, identity.id).await {
        tracing::warn!(%error, "cannot remove the worker from the list");
    }
    tracing::info!(target: "nightferry::sync", worker = %identity.id, "worker stopped");
    Ok(())
}

/// The host name, shown in the list of workers.
fn hostname() -> String {
    std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}
