//! Requests restores of archived copies, and polls their state.

use nightferry_core::context::Context;
use nightferry_core::tiering::archive;

/// One pass. Failures are retried by the next pass.
pub(crate) async fn archive(context: Context) {
    if let Err(error) = archive::pass(&context).await {
        tracing::warn!(%error, "cannot process archived copies; the next pass continues");
    }
}
