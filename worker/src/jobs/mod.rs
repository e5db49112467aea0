//! Background jobs, one file each.

mod archive;
mod catalog;
mod expired_rows;
mod housekeeping;
mod reconcile;
mod relocate;
mod scrub;

use nightferry_core::context::Context;
use nightferry_core::tiering::schedule::Ticks;
use tokio::sync::Mutex;

pub(crate) use archive::archive;
pub(crate) use catalog::catalog;
pub(crate) use expired_rows::expired_rows;
pub(crate) use housekeeping::housekeeping;
pub(crate) use reconcile::reconcile;
pub(crate) use relocate::{Pace, relocate};
pub(crate) use scrub::scrub;

/// Takes the tick of a schedule that is due, if any. Returns true in exactly one worker.
async fn is_due(context: &Context, ticks: &Mutex<Ticks>, name: &str, pattern: &str) -> bool {
    ticks.lock().await.take_due(context, name, pattern).await.unwrap_or_else(|error| {
        tracing::warn!(schedule = name, %error, "cannot read a schedule; retrying");
        false
    })
}
