//! Limits the read rate, so that scrubbing does not affect other work.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Maximum time for which unused capacity accumulates.
const SLACK: Duration = Duration::from_millis(250);

/// Limits the read rate of a pass.
pub(in crate::tiering) struct RateLimiter {
    rate: Option<u64>,
    paid_until: Mutex<Instant>,
}

impl RateLimiter {
    /// `None`: unlimited.
    pub(in crate::tiering) fn new(rate: Option<u64>) -> Self {
        Self { rate, paid_until: Mutex::new(Instant::now()) }
    }

    /// Waits as long as reading `bytes` may take.
    pub(in crate::tiering) async fn spend(&self, bytes: u64) {
        let Some(rate) = self.rate else { return };
        let nanos = u128::from(bytes).saturating_mul(1_000_000_000) / u128::from(rate.max(1));
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let until = {
            let now = Instant::now();
            let mut paid_until = self.paid_until.lock();
            let from = now.checked_sub(SLACK).map_or(*paid_until, |earliest| earliest.max(*paid_until));
            *paid_until = from + cost;
            *paid_until
        };
        sleep_until(until).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn reading_is_limited_to_the_rate() {
        let pace = RateLimiter::new(Some(1000));
        let began = Instant::now();
        for _ in 0..100 {
            pace.spend(100).await;
        }
        assert!((9_700..=10_100).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_rate_does_not_accumulate() {
        let pace = RateLimiter::new(Some(1000));
        tokio::time::sleep(Duration::from_secs(60)).await;
        let began = Instant::now();
        pace.spend(10_000).await;
        assert!(began.elapsed() >= Duration::from_millis(9_700), "{:?}", began.elapsed());
    }
}
