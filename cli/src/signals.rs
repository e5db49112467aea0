//! Requests to stop from the terminal or the system: Ctrl-C (SIGINT) and SIGTERM.

use std::time::{Duration, Instant};

use nightferry_devservers::UpError;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// One request may arrive more than once: from the terminal and from a wrapper that forwards it.
const SAME_REQUEST: Duration = Duration::from_millis(300);

/// Receives requests to stop, from its creation on.
#[derive(Debug)]
pub struct StopRequests {
    interrupt: Signal,
    terminate: Signal,
    last: Option<Instant>,
}

impl StopRequests {
    /// Starts listening. From now on these signals no longer terminate the process.
    pub fn listen() -> Result<Self, UpError> {
        let failed =
            |error: std::io::Error| UpError::Other(format!("cannot listen for stop signals: {error}"));
        let listen = |kind| signal(kind).map_err(failed);
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            last: None,
        })
    }

    /// Waits for the next request. The first one requests a graceful stop, the second one an immediate stop.
    pub async fn next(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
            if self.last.is_none_or(|last| last.elapsed() > SAME_REQUEST) {
                self.last = Some(Instant::now());
                return;
            }
        }
    }
}
