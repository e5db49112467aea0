//! Background jobs.

mod housekeeping;
mod passes;
mod relocate;

use nightferry_core::catalog;
use nightferry_core::context::Context;
use nightferry_core::error::Result;
use nightferry_core::tiering::{archive, reap};
use tokio_util::sync::CancellationToken;

pub(crate) use housekeeping::housekeeping;
pub(crate) use passes::{reconcile, scrub};
pub(crate) use relocate::{Pace, relocate};

/// Requests restores of archived copies, and polls their state.
pub(crate) async fn archive(context: Context) {
    or_warn(archive::pass(&context).await, "cannot process archived copies; the next pass continues");
}

pub(crate) async fn expired_rows(context: Context) {
    or_warn(reap::expired_rows(&context).await, "cannot delete expired rows");
}

/// Writes a snapshot of the catalogue to the cloud store if one is due after a run that changed something; in one worker at
/// a time, until `stop`. A failed snapshot does not fail a run: it is logged as an error and retried.
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

/// Whether nothing may be deleted, because the database lacks the objects of the stores; logged as an error when it was
/// detected.
fn is_catalogue_lost(context: &Context) -> bool {
    context.stores.empty_catalogue().is_beside_objects()
}

/// What a pass did; a failure is logged, and the next pass tries again.
fn or_warn<T>(outcome: Result<T>, failure: &str) -> Option<T> {
    outcome.inspect_err(|error| tracing::warn!(%error, "{failure}")).ok()
}
