//! Waits for conditions instead of sleeping.

use std::time::{Duration, Instant};

/// Maximum time that a test waits for anything.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);

/// Polls `condition` until it returns something; panics with `what` after the deadline.
pub async fn eventually<T, Fut>(what: &str, mut condition: impl FnMut() -> Fut) -> T
where
    Fut: Future<Output = Option<T>>,
{
    let started = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
}
