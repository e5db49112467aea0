//! Drops rows that only mattered for a while.

use nightferry_core::context::Context;
use nightferry_core::tiering::reap;

/// One pass. A failure waits for the next one.
pub(crate) async fn expired_rows(context: Context) {
    if let Err(error) = reap::expired_rows(&context).await {
        tracing::warn!(%error, "expired rows could not be dropped");
    }
}
