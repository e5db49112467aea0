//! Reads an object as a stream that never ends early without an error.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::{BoxStream, Stream, StreamExt as _};
use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use tokio::time::{Instant, Sleep};

use super::options::read_metadata;
use super::{ObjectKey, Store, StoreError, StoreErrorKind, object, sign};

const GET: &str = "GetObject";

/// A byte range, inclusive (RFC 9110 section 14.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// First byte, counted from zero.
    pub first: u64,
    /// Last byte; the end of the object if absent.
    pub last: Option<u64>,
}

impl ByteRange {
    /// `length` bytes starting at `first`. `None` for an empty range, which HTTP cannot express.
    pub fn of_length(first: u64, length: u64) -> Option<Self> {
        let last = first.checked_add(length.checked_sub(1)?)?;
        Some(Self { first, last: Some(last) })
    }
}

impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.last {
            Some(last) => write!(f, "bytes={}-{last}", self.first),
            None => write!(f, "bytes={}-", self.first),
        }
    }
}

/// An object, or a range of it, being read.
#[derive(Debug)]
pub struct GetObject {
    /// Number of bytes that `body` yields.
    pub length: u64,
    /// Size of the whole object.
    pub total_size: u64,
    /// ETag without quotes.
    pub etag: String,
    /// User metadata, decoded.
    pub metadata: BTreeMap<String, String>,
    /// The bytes.
    pub body: ObjectBody,
}

/// The content of an object. Yields exactly the announced number of bytes or an error; every pause has a timeout.
pub struct ObjectBody {
    store: Store,
    chunks: BoxStream<'static, Result<Bytes, reqwest::Error>>,
    left: u64,
    deadline: Pin<Box<Sleep>>,
    waiting: bool,
    done: bool,
}

impl Store {
    /// Reads an object or a range of it. A range that starts past the end results in `InvalidRange`.
    pub async fn get(&self, key: &ObjectKey, range: Option<ByteRange>) -> Result<GetObject, StoreError> {
        self.signed(|| self.get_once(key, range)).await
    }

    async fn get_once(&self, key: &ObjectKey, range: Option<ByteRange>) -> Result<GetObject, StoreError> {
        let mut headers = HeaderMap::new();
        if let Some(range) = range {
            let value =
                HeaderValue::try_from(range.to_string()).map_err(|error| self.invalid(GET, &error))?;
            headers.insert(RANGE, value);
        }
        let signing = sign::get(&self.0.bucket, key.as_str(), headers);
        let request = signing.await.map_err(|error| self.invalid(GET, &error))?;
        let response = self.execute(GET, request, self.settings().deadlines.control).await?;

        let length =
            response.content_length().ok_or_else(|| self.protocol(GET, "the response has no length"))?;
        let total_size = match range {
            None => length,
            Some(range) => {
                // A server or proxy that ignores the range returns 200 with the whole object.
                if response.status() != StatusCode::PARTIAL_CONTENT {
                    return Err(self.protocol(GET, "the range was ignored"));
                }
                let (first, total) = read_content_range(response.headers())
                    .ok_or_else(|| self.protocol(GET, "the response has no Content-Range"))?;
                if first != range.first {
                    return Err(self.protocol(GET, "the response has another range"));
                }
                total
            }
        };
        Ok(GetObject {
            length,
            total_size,
            etag: object::read_etag(response.headers()).unwrap_or_default(),
            metadata: read_metadata(response.headers()),
            body: ObjectBody {
                store: self.clone(),
                chunks: response.bytes_stream().boxed(),
                left: length,
                deadline: Box::pin(tokio::time::sleep(self.settings().deadlines.idle)),
                waiting: false,
                done: false,
            },
        })
    }
}

/// First byte and total size of `Content-Range: bytes 0-9/100` (RFC 9110 section 14.4).
fn read_content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()?))
}

impl Stream for ObjectBody {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.done {
            return Poll::Ready(None);
        }
        let next = match this.chunks.poll_next_unpin(cx) {
            Poll::Ready(next) => next,
            Poll::Pending => return this.poll_deadline(cx),
        };
        this.waiting = false;
        match next {
            Some(Ok(chunk)) => {
                let came = u64::try_from(chunk.len()).unwrap_or(u64::MAX);
                let Some(left) = this.left.checked_sub(came) else {
                    let error = this.store.protocol(GET, "the body is longer than announced");
                    return this.fail(error);
                };
                this.left = left;
                Poll::Ready(Some(Ok(chunk)))
            }
            Some(Err(error)) => {
                let error = this.store.body_broken(GET, error);
                this.fail(error)
            }
            None if this.left > 0 => {
                let detail = format!("{} bytes are missing", this.left);
                let error = this.store.error(GET, StoreErrorKind::Truncated, detail);
                this.fail(error)
            }
            None => {
                this.done = true;
                Poll::Ready(None)
            }
        }
    }
}

impl ObjectBody {
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, StoreError>>> {
        let idle = self.store.settings().deadlines.idle;
        if !self.waiting {
            self.waiting = true;
            self.deadline.as_mut().reset(Instant::now() + idle);
        }
        ready!(self.deadline.as_mut().poll(cx));
        let error = self.store.timed_out(GET, idle);
        self.fail(error)
    }

    fn fail(&mut self, error: StoreError) -> Poll<Option<Result<Bytes, StoreError>>> {
        self.done = true;
        // Closes the connection immediately.
        self.chunks = futures_util::stream::empty().boxed();
        Poll::Ready(Some(Err(error)))
    }
}

impl fmt::Debug for ObjectBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectBody({} bytes left)", self.left)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ranges_are_formatted_for_http() {
        assert_eq!(ByteRange::of_length(5, 10).unwrap().to_string(), "bytes=5-14");
        assert_eq!(ByteRange { first: 7, last: None }.to_string(), "bytes=7-");
        assert_eq!(ByteRange::of_length(5, 0), None);
        assert_eq!(ByteRange::of_length(u64::MAX, 2), None);
    }

    #[test]
    fn content_ranges_are_parsed_or_rejected() {
        let read = |text: &str| {
            let headers = HeaderMap::from_iter([(CONTENT_RANGE, HeaderValue::from_str(text).unwrap())]);
            read_content_range(&headers)
        };
        assert_eq!(read("bytes 5-14/100"), Some((5, 100)));
        for wrong in ["bytes */100", "bytes 5-14/*", "5-14/100", "", "bytes 5"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
