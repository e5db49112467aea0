//! The clock, controllable by tests. Nothing else in the domain reads the system clock for decisions.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Duration, Utc};

/// The time source of one process: the system clock, or one that a test advances.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    offset_millis: Arc<AtomicI64>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// The current time, in UTC.
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + Duration::milliseconds(self.offset_millis.load(Ordering::Relaxed))
    }

    /// The offset of this clock from the system clock, as set by [`Self::advance`].
    pub fn shift(&self) -> Duration {
        Duration::milliseconds(self.offset_millis.load(Ordering::Relaxed))
    }

    /// Moves this clock and all its clones by `by` (backwards if negative).
    pub fn advance(&self, by: Duration) {
        self.offset_millis.fetch_add(by.num_milliseconds(), Ordering::Relaxed);
    }
}
