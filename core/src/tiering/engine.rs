//! State that the copies of one worker share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::context::Context;
use crate::object::pace::BandwidthLimiter;

/// State that copying needs in addition to the [`Context`]. Created once per process; clones share it.
#[derive(Clone)]
pub struct Engine {
    /// Configuration, database, stores and clock.
    pub context: Context,
    /// The limit of concurrent streams of copies.
    pub copy_streams: Arc<Semaphore>,
    /// The bandwidth shared by copies.
    pub pace: BandwidthLimiter,
}

impl Engine {
    /// Initial state: no copy is in progress.
    pub fn new(context: Context) -> Self {
        let tiering = &context.config.tiering;
        let streams = tiering.streams.clamp(1, Semaphore::MAX_PERMITS);
        let pace = BandwidthLimiter::new(tiering, context.clock.clone());
        Self { copy_streams: Arc::new(Semaphore::new(streams)), pace, context }
    }
}
