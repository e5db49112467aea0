//! Deletes expired rows.

use nightferry_core::context::Context;
use nightferry_core::tiering::reap;

/// One pass. A failure is retried by the next pass.
pub(crate) async fn expired_rows(context: Context) {
    if let Err(error) = reap::expired_rows(&context).await {
        tracing::warn!(%error, "cannot delete expired rows");
    }
}
