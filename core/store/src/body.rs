//! Request bodies: bytes in memory or a stream of known length, monitored while being sent.
//!
//! Failures of the producer are distinguished from failures of the store. The last chunk is held back until the
//! producer has ended successfully, so that a producer that fails at its very end (a truncated source, a wrong hash)
//! never leaves a complete object behind.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::error::BoxError;
use super::pieces::Pieces;

/// Number of bytes passed to the connection at once for a body in memory: small enough to observe progress.
const SLICE: usize = 256 * 1024;

/// The content of an object or part to send.
pub enum Body {
    /// In memory: a failed request can be retried with a clone.
    Bytes(Bytes),
    /// In memory, in pieces: can be retried too.
    Pieces(Pieces),
    /// Produced while being sent: for a single attempt.
    Stream {
        /// Exact number of bytes that `stream` yields; any other number is an error of the source.
        length: u64,
        /// The bytes. Its error is returned by [`super::StoreError::into_source`].
        stream: BoxStream<'static, Result<Bytes, BoxError>>,
    },
}

impl Body {
    /// Exact length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Self::Pieces(pieces) => pieces.length(),
            Self::Stream { length, .. } => *length,
        }
    }

    /// A body produced while being sent; its errors may be of any type.
    pub fn stream<S, E>(length: u64, stream: S) -> Self
    where
        S: Stream<Item = Result<Bytes, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Self::Stream { length, stream: stream.map(|chunk| chunk.map_err(Into::into)).boxed() }
    }

    /// A copy of the body, if possible.
    pub(super) fn again(&self) -> Option<Self> {
        match self {
            Self::Bytes(bytes) => Some(Self::Bytes(bytes.clone())),
            Self::Pieces(pieces) => Some(Self::Pieces(pieces.clone())),
            Self::Stream { .. } => None,
        }
    }

    fn into_stream(self) -> BoxStream<'static, Result<Bytes, BoxError>> {
        match self {
            Self::Stream { stream, .. } => stream,
            Self::Pieces(pieces) => pieces.into_stream().boxed(),
            Self::Bytes(mut bytes) => {
                let slices = std::iter::from_fn(move || {
                    let take = SLICE.min(bytes.len());
                    (take > 0).then(|| Ok(bytes.split_to(take)))
                });
                futures_util::stream::iter(slices).boxed()
            }
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Pieces> for Body {
    fn from(pieces: Pieces) -> Self {
        Self::Pieces(pieces)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({} bytes)", self.length())
    }
}

/// The producer yielded a different number of bytes than announced.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BodyLengthError {
    /// The source ended before the announced length.
    #[error("the source ended after {sent} of {length} bytes")]
    TooShort {
        /// Bytes yielded.
        sent: u64,
        /// Bytes announced.
        length: u64,
    },
    /// The source yielded more.
    #[error("the source has more than the announced {length} bytes")]
    TooLong {
        /// Bytes announced.
        length: u64,
    },
}

/// The progress of a body, shared between the connection that sends it and the request that waits for the response.
pub(super) struct Progress {
    started: Instant,
    moved_at: AtomicU64,
    waits_for_source: AtomicBool,
    failure: Mutex<Option<BoxError>>,
}

/// Which side was inactive for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stalled {
    Source,
    Store,
}

impl Progress {
    /// The error of the producer, if any.
    pub(super) fn take_failure(&self) -> Option<BoxError> {
        self.failure.lock().take()
    }

    /// Completes when there has been no progress for `idle`.
    pub(super) async fn stalled(&self, idle: Duration) -> Stalled {
        loop {
            let moved = self.started + Duration::from_millis(self.moved_at.load(Ordering::Relaxed));
            if moved.elapsed() < idle {
                tokio::time::sleep_until(moved + idle).await;
            } else if self.waits_for_source.load(Ordering::Relaxed) {
                return Stalled::Source;
            } else {
                return Stalled::Store;
            }
        }
    }

    fn mark(&self, waits_for_source: bool) {
        self.waits_for_source.store(waits_for_source, Ordering::Relaxed);
        if !waits_for_source {
            let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.moved_at.store(elapsed, Ordering::Relaxed);
        }
    }

    fn fail(&self, error: BoxError) -> io::Error {
        *self.failure.lock() = Some(error);
        io::Error::other("the source of the body failed")
    }
}

/// The stream that the connection reads from.
pub(super) struct Watched {
    source: BoxStream<'static, Result<Bytes, BoxError>>,
    length: u64,
    seen: u64,
    last: Option<Bytes>,
    done: bool,
    progress: Arc<Progress>,
}

/// Prepares a body, and returns it with its progress.
pub(super) fn watch(body: Body) -> (Watched, Arc<Progress>) {
    let progress = Arc::new(Progress {
        started: Instant::now(),
        moved_at: AtomicU64::new(0),
        waits_for_source: AtomicBool::new(false),
        failure: Mutex::new(None),
    });
    let watched = Watched {
        length: body.length(),
        source: body.into_stream(),
        seen: 0,
        last: None,
        done: false,
        progress: Arc::clone(&progress),
    };
    (watched, progress)
}

impl Stream for Watched {
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        loop {
            let Poll::Ready(next) = this.source.poll_next_unpin(cx) else {
                this.progress.mark(true);
                return Poll::Pending;
            };
            this.progress.mark(false);
            match next {
                Some(Ok(chunk)) if chunk.is_empty() => {}
                Some(Ok(chunk)) => {
                    this.seen = this.seen.saturating_add(u64::try_from(chunk.len()).unwrap_or(u64::MAX));
                    if this.seen < this.length {
                        return Poll::Ready(Some(Ok(chunk)));
                    }
                    if this.seen > this.length {
                        return this.fail(BodyLengthError::TooLong { length: this.length }.into());
                    }
                    this.last = Some(chunk);
                }
                Some(Err(error)) => return this.fail(error),
                None if this.seen < this.length => {
                    let (sent, length) = (this.seen, this.length);
                    return this.fail(BodyLengthError::TooShort { sent, length }.into());
                }
                None => {
                    this.done = true;
                    return Poll::Ready(this.last.take().map(Ok));
                }
            }
        }
    }
}

impl Watched {
    /// Exact length in bytes.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Drives an empty source to its end; a failure is recorded in the progress.
    pub(super) async fn finish(&mut self) {
        while let Some(Ok(_)) = self.next().await {}
    }

    fn fail(&mut self, error: BoxError) -> Poll<Option<io::Result<Bytes>>> {
        self.done = true;
        self.last = None;
        Poll::Ready(Some(Err(self.progress.fail(error))))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures_util::stream;

    use super::*;

    fn body(length: u64, chunks: Vec<Result<&'static str, BoxError>>) -> Body {
        let chunks = chunks.into_iter().map(|chunk| chunk.map(|text| Bytes::from_static(text.as_bytes())));
        Body::Stream { length, stream: stream::iter(chunks.collect::<Vec<_>>()).boxed() }
    }

    /// The bytes sent, and the failure of the producer.
    async fn send(body: Body) -> (Vec<u8>, Option<BoxError>) {
        let (watched, progress) = watch(body);
        let mut sent = Vec::new();
        for chunk in watched.collect::<Vec<_>>().await.into_iter().flatten() {
            sent.extend_from_slice(&chunk);
        }
        (sent, progress.take_failure())
    }

    #[tokio::test]
    async fn an_exact_body_passes_unchanged() {
        let (sent, failure) = send(body(6, vec![Ok("ab"), Ok(""), Ok("cdef")])).await;
        assert_eq!((sent.as_slice(), failure.is_none()), (&b"abcdef"[..], true));
        let large = Bytes::from(vec![7; SLICE * 2 + 5]);
        assert_eq!(send(Body::Bytes(large.clone())).await.0, large);
    }

    #[tokio::test]
    async fn a_source_that_fails_at_its_end_never_sends_its_last_bytes() {
        let (sent, failure) = send(body(6, vec![Ok("ab"), Ok("cdef"), Err("hash differs".into())])).await;
        assert_eq!(sent, b"ab");
        assert_eq!(failure.unwrap().to_string(), "hash differs");
    }

    #[tokio::test]
    async fn a_source_of_another_length_is_an_error() {
        let (sent, failure) = send(body(4, vec![Ok("ab"), Ok("cd"), Ok("e")])).await;
        assert_eq!(sent, b"ab");
        assert_eq!(failure.unwrap().downcast_ref(), Some(&BodyLengthError::TooLong { length: 4 }));
        let (_, failure) = send(body(4, vec![Ok("ab")])).await;
        assert_eq!(failure.unwrap().downcast_ref(), Some(&BodyLengthError::TooShort { sent: 2, length: 4 }));
        let (_, failure) = send(body(0, vec![Ok("a")])).await;
        assert!(failure.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stall_is_attributed_to_the_inactive_side() {
        let idle = Duration::from_secs(5);
        let (mut watched, progress) = watch(Body::Stream { length: 1, stream: stream::pending().boxed() });
        assert!(futures_util::poll!(watched.next()).is_pending());
        assert_eq!(progress.stalled(idle).await, Stalled::Source);
        let (_unread, progress) = watch(body(1, vec![Ok("a")]));
        assert_eq!(progress.stalled(idle).await, Stalled::Store);
    }
}
