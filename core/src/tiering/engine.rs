//! What the copies of one worker share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::context::Context;
use crate::object::pace::Pace;

/// What copying needs beyond the [`Context`]. Made once per process; clones share the same.
#[derive(Clone)]
pub struct Engine {
    /// Configuration, database, stores and clock.
    pub context: Context,
    /// Streams that copies may have open, all together.
    pub copy_streams: Arc<Semaphore>,
    /// The bandwidth that copies share.
    pub pace: Pace,
}

impl Engine {
    /// No copy is under way.
    pub fn new(context: Context) -> Self {
        let tiering = &context.config.tiering;
        let streams = tiering.streams.clamp(1, Semaphore::MAX_PERMITS);
        let pace = Pace::new(tiering, context.clock.clone());
        Self { copy_streams: Arc::new(Semaphore::new(streams)), pace, context }
    }
}
