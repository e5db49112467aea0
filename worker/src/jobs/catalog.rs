//! Writes a snapshot of the catalogue to the cloud store after a run that changed something; in one worker at a time.

use nightferry_core::catalog;
use nightferry_core::context::Context;
use tokio_util::sync::CancellationToken;

/// Writes a snapshot if one is due, until `stop`. A failed snapshot does not fail a run: it is logged as an error and
/// retried.
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
            "wrote a snapshot of the catalogue"
        ),
        Err(error) => tracing::error!(
            target: "nightferry::sync",
            %error,
            "cannot write a snapshot of the catalogue; retrying"
        ),
    }
}
