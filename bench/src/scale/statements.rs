//! The slowest statement that this process has sent, on any connection, timed from sending it to the result.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;
use diesel::connection::{Instrumentation, InstrumentationEvent, set_default_instrumentation};

/// A statement and how long it took.
#[derive(Debug, Clone)]
pub(super) struct Slow {
    pub(super) took: Duration,
    pub(super) sql: String,
}

static SLOWEST: Mutex<Option<Slow>> = Mutex::new(None);

/// The state of one connection: when its current statement was sent.
struct Timer(Option<Instant>);

impl Instrumentation for Timer {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match event {
            InstrumentationEvent::StartQuery { .. } => self.0 = Some(Instant::now()),
            InstrumentationEvent::FinishQuery { query, .. } => {
                if let Some(start) = self.0.take() {
                    note(start.elapsed(), || query.to_string());
                }
            }
            _ => {}
        }
    }
}

fn note(took: Duration, sql: impl FnOnce() -> String) {
    if let Ok(mut slowest) = SLOWEST.lock()
        && slowest.as_ref().is_none_or(|slow| slow.took < took)
    {
        *slowest = Some(Slow { took, sql: sql() });
    }
}

/// Times all statements of connections that are opened from now on.
pub(super) fn watch() -> Result<()> {
    let timer = || -> Option<Box<dyn Instrumentation>> { Some(Box::new(Timer(None))) };
    Ok(set_default_instrumentation(timer)?)
}

/// The slowest statement since the last call.
pub(super) fn take() -> Option<Slow> {
    SLOWEST.lock().ok().and_then(|mut slowest| slowest.take())
}
