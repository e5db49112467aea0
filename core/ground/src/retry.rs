//! Retries with exponential backoff and full jitter.
//!
//! The only place that uses the crate `backoff`, so that it can be replaced here. Independent of the operation: the
//! caller classifies each error.

use std::future::Future;
use std::time::Duration;

use backoff::backoff::Backoff as _;
use backoff::exponential::{ExponentialBackoff, ExponentialBackoffBuilder};
use rand::Rng as _;
use tokio::time::Instant;

/// Maximum honoured `Retry-After`.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);

/// How often and how long to retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Maximum of the first pause; the maximum doubles with each attempt.
    pub initial: Duration,
    /// Maximum of every pause.
    pub cap: Duration,
    /// Total number of attempts, including the first; at least one is always made.
    pub max_attempts: u32,
    /// No pause starts that would end later than this after the start.
    pub max_elapsed: Option<Duration>,
}

impl Default for RetryPolicy {
    /// Five attempts with pauses of up to 0.2, 0.4, 0.8 and 1.6 s, one minute in total at most.
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(200),
            cap: Duration::from_secs(10),
            max_attempts: 5,
            max_elapsed: Some(Duration::from_secs(60)),
        }
    }
}

/// How to handle an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Retry after a jittered pause.
    Again,
    /// Retry, but not before this time: requested by the server (`Retry-After`, RFC 9110 section 10.2.3).
    AgainAfter(Duration),
    /// Return the error to the caller.
    Stop,
}

/// Runs `op` until it succeeds, `verdict` stops the retries, or `policy` is exhausted; then returns the last error.
pub async fn retry<T, E, Op, Fut>(
    policy: &RetryPolicy,
    mut op: Op,
    verdict: impl Fn(&E) -> Retry,
) -> Result<T, E>
where
    Op: FnMut() -> Fut,
    Fut: Future<Output = Result<T, E>>,
{
    let started = Instant::now();
    let mut intervals = intervals(policy.initial, policy.cap);
    let mut attempts = 0_u32;
    loop {
        let error = match op().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        attempts = attempts.saturating_add(1);
        let least = match verdict(&error) {
            Retry::Stop => return Err(error),
            Retry::Again => Duration::ZERO,
            Retry::AgainAfter(asked) => asked.min(MAX_RETRY_AFTER),
        };
        if attempts >= policy.max_attempts {
            return Err(error);
        }
        let interval = intervals.next_backoff().unwrap_or(policy.cap);
        let pause = least.saturating_add(up_to(interval.min(policy.cap)));
        if policy.max_elapsed.is_some_and(|limit| started.elapsed() + pause > limit) {
            return Err(error);
        }
        tokio::time::sleep(pause).await;
    }
}

/// The pause before attempt `attempt + 1`, for queues with their own schedule: uniform between zero and `initial ×
/// 2^attempt`, at most `cap`.
pub fn delay(attempt: u32, initial: Duration, cap: Duration) -> Duration {
    up_to(interval(attempt, initial, cap))
}

/// The maximum of [`delay`] for this attempt.
pub fn interval(attempt: u32, initial: Duration, cap: Duration) -> Duration {
    2_u32.checked_pow(attempt).and_then(|factor| initial.checked_mul(factor)).map_or(cap, |d| d.min(cap))
}

/// Plain doubling intervals: the jitter of `backoff` is centred on the interval, full jitter starts at zero.
fn intervals(initial: Duration, cap: Duration) -> ExponentialBackoff<backoff::SystemClock> {
    ExponentialBackoffBuilder::new()
        .with_initial_interval(initial)
        .with_max_interval(cap)
        .with_multiplier(2.0)
        .with_randomization_factor(0.0)
        .with_max_elapsed_time(None)
        .build()
}

fn up_to(interval: Duration) -> Duration {
    rand::rng().random_range(Duration::ZERO..=interval)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::indexing_slicing)]

    use std::cell::RefCell;

    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        initial: Duration::from_millis(100),
        cap: Duration::from_millis(400),
        max_attempts: 6,
        max_elapsed: None,
    };

    /// Fails `failures` times, then succeeds; records when each attempt ran.
    async fn run(
        policy: &RetryPolicy,
        failures: usize,
        verdict: Retry,
    ) -> (Result<(), usize>, Vec<Duration>) {
        let started = Instant::now();
        let attempts = RefCell::new(Vec::new());
        let result = retry(
            policy,
            || async {
                attempts.borrow_mut().push(started.elapsed());
                let made = attempts.borrow().len();
                if made > failures { Ok(()) } else { Err(made) }
            },
            |_| verdict,
        )
        .await;
        (result, attempts.into_inner())
    }

    #[tokio::test(start_paused = true)]
    async fn a_success_needs_no_second_attempt() {
        let (result, attempts) = run(&POLICY, 0, Retry::Again).await;
        assert_eq!((result, attempts.len()), (Ok(()), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_end_at_the_limit_with_the_last_error() {
        let (result, attempts) = run(&POLICY, 99, Retry::Again).await;
        assert_eq!((result, attempts.len()), (Err(6), 6));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_verdict_ends_at_once() {
        let (result, attempts) = run(&POLICY, 99, Retry::Stop).await;
        assert_eq!((result, attempts.len()), (Err(1), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_stay_below_the_doubling_interval_and_the_cap() {
        for _ in 0..50 {
            let (_, attempts) = run(&POLICY, 99, Retry::Again).await;
            let pauses: Vec<_> = attempts.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
            for (pause, most) in pauses.iter().zip([100, 200, 400, 400, 400]) {
                // The timer of the runtime has a resolution of one millisecond.
                assert!(*pause <= Duration::from_millis(most + 2), "{pauses:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_server_may_ask_for_a_longer_pause() {
        let (_, attempts) = run(&POLICY, 1, Retry::AgainAfter(Duration::from_secs(7))).await;
        assert!(attempts[1] >= Duration::from_secs(7));
        let (_, attempts) = run(&POLICY, 1, Retry::AgainAfter(Duration::from_secs(86_400))).await;
        assert!(attempts[1] <= MAX_RETRY_AFTER + POLICY.cap);
    }

    #[tokio::test(start_paused = true)]
    async fn no_pause_exceeds_the_time_limit() {
        let policy = RetryPolicy { max_elapsed: Some(Duration::from_secs(5)), ..POLICY };
        let (result, attempts) = run(&policy, 99, Retry::AgainAfter(Duration::from_secs(3))).await;
        assert_eq!((result, attempts.len()), (Err(2), 2));
    }

    #[test]
    fn delays_fill_the_whole_range_from_zero() {
        let (initial, cap) = (Duration::from_secs(1), Duration::from_secs(60));
        for (attempt, most) in [(0, 1), (3, 8), (5, 32), (6, 60), (40, 60), (u32::MAX, 60)] {
            assert_eq!(interval(attempt, initial, cap), Duration::from_secs(most));
            let delays: Vec<_> = (0..400).map(|_| delay(attempt, initial, cap)).collect();
            assert!(delays.iter().all(|delay| *delay <= Duration::from_secs(most)));
            assert!(delays.iter().any(|delay| *delay < Duration::from_secs(most) / 4));
            assert!(delays.iter().any(|delay| *delay > Duration::from_secs(most) * 3 / 4));
        }
    }
}
