//! A bandwidth limit shared by all bodies that pass through a proxy, in both directions.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::time::sleep;

const PIECE: usize = 16 * 1024;

/// Bytes per second; `None` is unlimited.
#[derive(Debug, Default)]
pub(super) struct Limit {
    state: Mutex<(Option<u64>, Option<Instant>)>,
}

impl Limit {
    pub(super) fn set(&self, bytes_per_second: Option<u64>) {
        *self.state.lock().unwrap() = (bytes_per_second, None);
    }

    /// Maximum number of bytes to forward at once.
    pub(super) fn piece(&self) -> usize {
        if self.state.lock().unwrap().0.is_some() { PIECE } else { usize::MAX }
    }

    /// Waits until this many bytes may be forwarded.
    pub(super) async fn wait(&self, bytes: usize) {
        let wait = {
            let mut state = self.state.lock().unwrap();
            let (Some(rate), free_at) = *state else { return };
            let now = Instant::now();
            let start = free_at.unwrap_or(now).max(now);
            #[allow(clippy::cast_precision_loss, reason = "a test's bandwidth needs no more than 52 bits")]
            let takes = Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64);
            state.1 = Some(start + takes);
            start + takes - now
        };
        sleep(wait).await;
    }
}
