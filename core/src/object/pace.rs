//! The bandwidth limit of a worker: one token bucket shared by all its copies, filled at the current rate. Sources are
//! read in slices, small enough that all copies take turns often and a new rate takes effect immediately. A waiting
//! copy holds at most the chunk that was read last.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use chrono_tz::Tz;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

use crate::clock::Clock;
use crate::config::{Bandwidth, TieringConfig};

/// A slice is the amount allowed in this time.
const SLICE: Duration = Duration::from_millis(50);
/// The minimum slice, in bytes.
const MIN_SLICE: u64 = 1024;
/// Unused tokens accumulate for this time: timers are coarse, and the rate must be reached nevertheless.
const BURST: Duration = Duration::from_millis(100);
/// How long the current rate is cached.
const CACHE_TTL: Duration = Duration::from_millis(250);
/// Interval at which a waiting copy signals activity: the idle timeouts of stores are for inactive transfers, not for
/// throttled ones.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);

/// The bandwidth limiter. Clones share the bucket.
#[derive(Debug, Clone)]
pub struct BandwidthLimiter(Arc<Bucket>);

#[derive(Debug)]
struct Bucket {
    bandwidth: Bandwidth,
    zone: Tz,
    clock: Clock,
    looked: Mutex<Option<(Instant, Rate)>>,
    /// When the next slice may pass. The next waiter holds the lock, and the others queue for it in order.
    next: Arc<tokio::sync::Mutex<Instant>>,
}

/// Bytes per second; `None`: unlimited.
type Rate = Option<NonZeroU64>;

impl BandwidthLimiter {
    /// Creates a full bucket.
    pub fn new(config: &TieringConfig, clock: Clock) -> Self {
        Self(Arc::new(Bucket {
            bandwidth: config.bandwidth.clone(),
            zone: config.time_zone,
            clock,
            looked: Mutex::default(),
            next: Arc::new(tokio::sync::Mutex::new(Instant::now())),
        }))
    }

    /// The same content, at the current rate. Empty chunks in between signal that the source is throttled.
    pub fn limit<S, E>(&self, bytes: S) -> BoxStream<'static, Result<Bytes, E>>
    where
        S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
        E: Send + 'static,
    {
        if self.0.bandwidth.is_unlimited() {
            return bytes.boxed();
        }
        let held = Held { pace: self.clone(), source: bytes, rest: Bytes::new(), turn: None };
        stream::unfold(held, |mut held| async move { held.next().await.map(|item| (item, held)) }).boxed()
    }

    /// Waits until this many bytes, read by the caller itself, may pass.
    pub async fn pass(&self, bytes: u64) {
        if self.0.bandwidth.is_unlimited() {
            return;
        }
        let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
        while left > 0 {
            left = left.saturating_sub(self.clone().turn(left).await);
        }
    }

    fn rate(&self) -> Rate {
        let mut looked = self.0.looked.lock();
        if let Some((at, rate)) = *looked
            && at.elapsed() < CACHE_TTL
        {
            return rate;
        }
        let rate = self.0.bandwidth.at(self.0.clock.now(), self.0.zone);
        *looked = Some((Instant::now(), rate));
        rate
    }

    /// Waits until a slice of at most `most` bytes may pass, in order of arrival. Returns its size.
    async fn turn(self, most: usize) -> usize {
        let mut next = Arc::clone(&self.0.next).lock_owned().await;
        loop {
            let Some(rate) = self.rate() else { return most };
            let now = Instant::now();
            *next = (*next).max(now.checked_sub(BURST).unwrap_or(now));
            if *next <= now {
                let slice = most.min(slice_at(rate));
                *next += time_for(slice, rate);
                return slice;
            }
            // Not longer, because the rate may change in the meantime.
            sleep_until((*next).min(now + CACHE_TTL)).await;
        }
    }
}

fn slice_at(rate: NonZeroU64) -> usize {
    let bytes = u128::from(rate.get()) * SLICE.as_millis() / 1000;
    usize::try_from(bytes.max(u128::from(MIN_SLICE))).unwrap_or(usize::MAX)
}

fn time_for(bytes: usize, rate: NonZeroU64) -> Duration {
    let nanos =
        u128::try_from(bytes).unwrap_or(u128::MAX).saturating_mul(1_000_000_000) / u128::from(rate.get());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// A source whose content is throttled.
struct Held<S> {
    pace: BandwidthLimiter,
    source: S,
    rest: Bytes,
    /// The position in the queue.
    turn: Option<BoxFuture<'static, usize>>,
}

impl<S, E> Held<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
{
    async fn next(&mut self) -> Option<Result<Bytes, E>> {
        while self.rest.is_empty() {
            match self.source.next().await? {
                Ok(chunk) => self.rest = chunk,
                Err(error) => return Some(Err(error)),
            }
        }
        let mut turn = self.turn.take().unwrap_or_else(|| Box::pin(self.pace.clone().turn(self.rest.len())));
        tokio::select! {
            biased;
            slice = &mut turn => Some(Ok(self.rest.split_to(slice.min(self.rest.len())))),
            () = sleep(KEEPALIVE_INTERVAL) => {
                self.turn = Some(turn);
                Some(Ok(Bytes::new()))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
#[allow(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
mod tests {
    use std::convert::Infallible;

    use chrono::{DateTime, Utc};

    use super::*;

    const KIB: usize = 1024;

    fn pace(bandwidth: &str, clock: &Clock) -> BandwidthLimiter {
        BandwidthLimiter(Arc::new(Bucket {
            bandwidth: bandwidth.parse().unwrap(),
            zone: Tz::UTC,
            clock: clock.clone(),
            looked: Mutex::default(),
            next: Arc::new(tokio::sync::Mutex::new(Instant::now())),
        }))
    }

    fn source(chunk: usize, count: usize) -> impl Stream<Item = Result<Bytes, Infallible>> + Send + Unpin {
        stream::iter((0..count).map(move |_| Ok(Bytes::from(vec![7; chunk]))))
    }

    /// The number of bytes that passed, and the longest time without any activity.
    async fn drain(mut bytes: BoxStream<'static, Result<Bytes, Infallible>>) -> (usize, Duration) {
        let (mut passed, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
        while let Some(Ok(chunk)) = bytes.next().await {
            passed += chunk.len();
            longest = longest.max(last.elapsed());
            last = Instant::now();
        }
        (passed, longest)
    }

    fn assert_about(found: f64, wanted: f64) {
        assert!((found - wanted).abs() <= wanted * 0.05, "{found} is not about {wanted}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_reached_and_not_exceeded() {
        for (chunk, rate) in
            [(64 * KIB, "64KiB/s"), (1000, "100KiB/s"), (256 * KIB, "10MiB/s"), (64 * KIB, "2GiB/s")]
        {
            let pace = pace(rate, &Clock::system());
            let bytes_a_second = pace.rate().unwrap().get() as f64;
            let count = (bytes_a_second * 10.0 / chunk as f64) as usize;
            let started = Instant::now();
            let (passed, _) = drain(pace.limit(source(chunk, count))).await;
            assert_eq!(passed, chunk * count);
            assert_about(passed as f64 / started.elapsed().as_secs_f64(), bytes_a_second);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn all_copies_share_the_bandwidth_evenly() {
        let pace = pace("400KiB/s", &Clock::system());
        let started = Instant::now();
        let copies: Vec<_> = (0..4).map(|_| tokio::spawn(drain(pace.limit(source(64 * KIB, 32))))).collect();
        let mut ends = Vec::new();
        for copy in copies {
            copy.await.unwrap();
            ends.push(started.elapsed().as_secs_f64());
        }
        let (first, last) = (ends[0], ends[3]);
        assert_about(last, 4.0 * 64.0 * 32.0 / 400.0);
        assert!(first > last * 0.9, "one copy was throttled more than another: {ends:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn throttled_transfers_signal_activity() {
        let pace = pace("64KiB/s", &Clock::system());
        let copies: Vec<_> = (0..200).map(|_| tokio::spawn(drain(pace.limit(source(16 * KIB, 1))))).collect();
        for copy in copies {
            let (_, longest) = copy.await.unwrap();
            assert!(longest <= KEEPALIVE_INTERVAL + SLICE, "silent for {longest:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_of_the_rate_takes_effect_within_a_second() {
        let clock = Clock::system();
        let evening: DateTime<Utc> = "2026-05-01T17:00:00Z".parse().unwrap();
        clock.advance(evening - clock.now());
        let pace = pace("08:00-18:00 64KiB/s, 18:00-08:00 unlimited", &clock);
        let copies: Vec<_> = (0..8).map(|_| tokio::spawn(drain(pace.limit(source(256 * KIB, 64))))).collect();
        sleep(Duration::from_secs(5)).await;
        assert!(copies.iter().all(|copy| !copy.is_finished()));
        clock.advance(chrono::TimeDelta::hours(2));
        let changed = Instant::now();
        for copy in copies {
            assert_eq!(copy.await.unwrap().0, 64 * 256 * KIB);
        }
        assert!(changed.elapsed() < Duration::from_secs(1), "{:?}", changed.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_dropped_copy_releases_its_slot() {
        let pace = pace("64KiB/s", &Clock::system());
        let first = tokio::spawn(drain(pace.limit(source(64 * KIB, 1000))));
        sleep(Duration::from_millis(1234)).await;
        first.abort();
        let started = Instant::now();
        drain(pace.limit(source(64 * KIB, 4))).await;
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[tokio::test]
    async fn without_a_limit_nothing_is_split_or_delayed() {
        let pace = pace("", &Clock::system());
        let chunks: Vec<_> = pace.limit(source(10 * 1024 * KIB, 3)).collect().await;
        assert!(chunks.iter().all(|chunk| chunk.as_ref().unwrap().len() == 10 * 1024 * KIB));
        assert_eq!(chunks.len(), 3);
    }
}
