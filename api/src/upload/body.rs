//! The file content within the form, and bounds on the number of remaining bytes.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_LENGTH, HeaderMap};
use bytes::Bytes;
use futures_util::stream::LocalBoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt};
use nightferry_core::object::write::{BodyError, Incoming};

use super::multipart::{Form, FormError};

/// More than what follows the file in any reasonable form: the closing boundary and an epilogue.
const TRAILER: u64 = 16 * 1024;

/// The body of a request.
pub(super) type Payload = LocalBoxStream<'static, Result<Bytes, PayloadError>>;

/// Counts the bytes of the request body as the form parser reads them; the second value is the counter.
pub(super) fn counted<S>(payload: S) -> (Payload, Rc<Cell<u64>>)
where
    S: Stream<Item = Result<Bytes, PayloadError>> + 'static,
{
    let taken = Rc::new(Cell::new(0_u64));
    let counter = taken.clone();
    let count = move |chunk: &Bytes| counter.set(counter.get().saturating_add(length(chunk)));
    (payload.inspect_ok(count).boxed_local(), taken)
}

/// The last field of the form.
pub(crate) struct FileBody {
    form: Form<Payload>,
    extent: Extent,
    idle: Duration,
}

impl FileBody {
    /// The current part of `form`.
    pub(super) fn new(form: Form<Payload>, extent: Extent, idle: Duration) -> Self {
        Self { form, extent, idle }
    }

    /// The next bytes. Only the end of the form may follow the file, because other fields would be read too late.
    async fn read(&mut self) -> Result<Option<Bytes>, BodyError> {
        let broken = |error: FormError| BodyError::Broken(error.to_string());
        if let Some(chunk) = self.form.chunk().await.map_err(broken)? {
            return Ok(Some(chunk));
        }
        match self.form.next_part().await.map_err(broken)? {
            None => Ok(None),
            Some(_) => Err(BodyError::Broken("the file must be the last field of the form".to_owned())),
        }
    }
}

impl Incoming for FileBody {
    async fn next(&mut self) -> Option<Result<Bytes, BodyError>> {
        let idle = self.idle;
        match tokio::time::timeout(idle, self.read()).await {
            Ok(Ok(Some(chunk))) => {
                self.extent.delivered = self.extent.delivered.saturating_add(length(&chunk));
                Some(Ok(chunk))
            }
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(Err(error)),
            Err(_) => Some(Err(BodyError::Idle(idle))),
        }
    }

    fn at_least(&self) -> u64 {
        self.extent.at_least()
    }

    fn at_most(&self) -> Option<u64> {
        self.extent.at_most()
    }

    fn expected(&self) -> Option<u64> {
        let untaken = self.extent.untaken()?;
        Some(
            self.form
                .held_content()
                .map_or(0, |held| untaken.saturating_add(held).saturating_sub(self.form.usual_end())),
        )
    }
}

/// How much of the request has been read.
#[derive(Debug, Clone)]
pub(super) struct Extent {
    /// Content-Length, if the client sent one.
    announced: Option<u64>,
    /// Bytes read by the parser.
    taken: Rc<Cell<u64>>,
    /// Bytes of the file returned by the parser.
    delivered: u64,
}

impl Extent {
    pub(super) fn new(headers: &HeaderMap, taken: Rc<Cell<u64>>) -> Self {
        let announced = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Self { announced, taken, delivered: 0 }
    }

    /// Everything that the parser has not read yet is file content, except the trailer. Bytes buffered by the parser
    /// are not counted, because it is unknown how many of them are file content.
    fn at_least(&self) -> u64 {
        self.untaken().unwrap_or(0).saturating_sub(TRAILER)
    }

    /// The part of the request that the parser has not read.
    fn untaken(&self) -> Option<u64> {
        Some(self.announced?.saturating_sub(self.taken.get()))
    }

    /// Everything of the request that has not been returned as file content. Too large by the size of the other fields,
    /// never too small.
    fn at_most(&self) -> Option<u64> {
        Some(self.announced?.saturating_sub(self.delivered))
    }
}

fn length(chunk: &Bytes) -> u64 {
    u64::try_from(chunk.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{CONTENT_TYPE, HeaderValue};
    use futures_util::stream;

    use super::*;
    use crate::upload::form::{Fields, read_fields};

    /// A form with a file of `size` bytes, split into chunks of `chunk` bytes.
    fn form(size: usize, chunk: usize) -> (HeaderMap, Vec<Bytes>) {
        let file: Vec<u8> = (0..size).map(|at| [b'\r', b'\n', b'-', b'-', b'x', 0][at * 7 % 6]).collect();
        let mut raw =
            b"--sep\r\nContent-Disposition: form-data; name=\"on_conflict\"\r\n\r\nrename\r\n".to_vec();
        raw.extend_from_slice(
            b"--sep\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n",
        );
        raw.extend_from_slice(&file);
        raw.extend_from_slice(b"\r\n--sep--\r\n");
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("multipart/form-data; boundary=sep"));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(raw.len()));
        (headers, raw.chunks(chunk).map(Bytes::copy_from_slice).collect())
    }

    #[actix_web::test]
    async fn limits_are_enforced_at_every_chunk() {
        for (size, chunk) in
            [(0, 64), (1, 1), (5000, 7), (300_000, 8192), (300_000, 100_000), (200_000, 65_536)]
        {
            let (headers, chunks) = form(size, chunk);
            let payload = stream::iter(chunks.into_iter().map(Ok::<_, PayloadError>));
            let Fields { mut body, .. } =
                read_fields(&headers, payload, Duration::from_secs(5)).await.unwrap();
            let mut left = u64::try_from(size).unwrap();
            loop {
                assert!(body.at_least() <= left, "{size}/{chunk}: {} > {left}", body.at_least());
                assert!(body.at_most().unwrap() >= left, "{size}/{chunk}: {:?} < {left}", body.at_most());
                assert_eq!(body.expected(), Some(left), "{size}/{chunk}");
                match body.next().await {
                    Some(bytes) => left -= length(&bytes.unwrap()),
                    None => break,
                }
            }
            assert_eq!(left, 0);
        }
    }

    #[actix_web::test]
    async fn a_body_of_unknown_length_announces_no_size() {
        let (mut headers, chunks) = form(10_000, 1000);
        headers.remove(CONTENT_LENGTH);
        let payload = stream::iter(chunks.into_iter().map(Ok::<_, PayloadError>));
        let Fields { body, .. } = read_fields(&headers, payload, Duration::from_secs(5)).await.unwrap();
        assert_eq!((body.at_least(), body.at_most(), body.expected()), (0, None, None));
    }

    #[actix_web::test]
    async fn a_silent_client_times_out() {
        let (headers, chunks) = form(100_000, 50_000);
        let some = stream::iter(chunks.into_iter().take(1).map(Ok::<_, PayloadError>));
        let payload = some.chain(stream::pending());
        let Fields { mut body, .. } =
            read_fields(&headers, payload, Duration::from_millis(50)).await.unwrap();
        let outcome = loop {
            match body.next().await {
                Some(Ok(_)) => {}
                other => break other,
            }
        };
        assert!(matches!(outcome, Some(Err(BodyError::Idle(_)))));
    }
}
