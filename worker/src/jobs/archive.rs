//! Asks stores for archived copies that somebody wants to read, and looks whether they are there.

use nightferry_core::context::Context;
use nightferry_core::tiering::archive;

/// One pass. Failures wait for the next one.
pub(crate) async fn archive(context: Context) {
    if let Err(error) = archive::pass(&context).await {
        tracing::warn!(%error, "archived copies could not be looked after, the next pass goes on");
    }
}
