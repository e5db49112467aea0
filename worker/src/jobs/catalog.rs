//! Writes a snapshot of the catalogue to the cloud store when a run changed something; of all workers one does.

use nightferry_core::catalog;
use nightferry_core::context::Context;
use tokio_util::sync::CancellationToken;

/// One snapshot if one is due, broken off at `stop`. One that fails fails no run: it is told loudly and tried again.
pub(crate) async fn catalog(context: Context, stop: CancellationToken) {
    match catalog::after_runs(&context, &stop).await {
        Ok(None) => {}
        Ok(Some(snapshot)) => tracing::info!(
            target: "nightferry::sync",
            store = snapshot.store,
            key = snapshot.key,
            bytes = snapshot.bytes,
            rows = snapshot.rows.values().sum::<u64>(),
            pruned = snapshot.pruned,
            took = ?snapshot.took,
            "a snapshot of the catalogue is written"
        ),
        Err(error) => tracing::error!(
            target: "nightferry::sync",
            %error,
            "no snapshot of the catalogue could be written; it is tried again"
        ),
    }
}
