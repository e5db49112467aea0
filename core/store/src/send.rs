//! Sends signed requests and maps every failure to a [`StoreError`]. The only place that handles HTTP statuses and
//! errors of the HTTP client.

use std::error::Error as _;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, TimeDelta, Utc};
use futures_util::Stream;
use reqwest::header::{CONTENT_LENGTH, DATE, HeaderValue, RETRY_AFTER};
use reqwest::{Method, Request, Response};
use s3::Bucket;
use s3::command::{Command, HttpMethod};
use s3::error::S3Error;
use s3::request::Request as _;
use s3::request::tokio_backend::ReqwestRequest;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::body::{Progress, Stalled, Watched, watch};
use super::chunked::{self, Trailer, TrailerCrc};
use super::error::CLOCK_SKEW;
use super::{Body, Store, StoreError, StoreErrorKind, sign, xml};
use crate::checksum::Crc64Nvme;

/// Maximum clock skew in S3.
const SKEW_LIMIT: TimeDelta = TimeDelta::minutes(15);

/// Maximum size of a response that is not an object: listings of 1,000 keys of 1 KiB are the largest.
const ANSWER_LIMIT: usize = 4 * 1024 * 1024;

/// Maximum size of an error body to read.
const ERROR_LIMIT: usize = 64 * 1024;

/// Bodies up to this size are sent at once; larger ones are monitored.
const SMALL_BODY: u64 = 256 * 1024;

impl Store {
    /// Runs `attempt`, and once more with a fresh signature if the store rejected the first one for clock skew.
    pub(super) async fn signed<T, Fut>(&self, attempt: impl Fn() -> Fut) -> Result<T, StoreError>
    where
        Fut: Future<Output = Result<T, StoreError>>,
    {
        match attempt().await {
            Err(error) if error.is_clock_skew() => attempt().await,
            result => result,
        }
    }

    /// Like [`Self::signed`], for an attempt that sends a body; without the second one if the body cannot be repeated.
    pub(super) async fn signed_body<T, Fut>(
        &self,
        body: Body,
        attempt: impl Fn(Body) -> Fut,
    ) -> Result<T, StoreError>
    where
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let again = body.again();
        match (attempt(body).await, again) {
            (Err(error), Some(body)) if error.is_clock_skew() => attempt(body).await,
            (result, _) => result,
        }
    }

    /// A request without object content, signed by rust-s3; the response has a successful status.
    pub(super) async fn control(
        &self,
        operation: &'static str,
        bucket: &Bucket,
        path: &str,
        command: Command<'_>,
    ) -> Result<Response, StoreError> {
        let signed = async {
            let request = ReqwestRequest::new(bucket, path, command).await?;
            let mut message = Request::new(method(&request.command().http_verb()), request.url()?);
            *message.headers_mut() = request.headers().await?;
            let body = request.request_body()?;
            if !body.is_empty() {
                *message.body_mut() = Some(body.into());
            }
            Ok::<_, S3Error>(message)
        };
        let request = signed.await.map_err(|error| self.invalid(operation, &error))?;
        self.execute(operation, request, self.settings().deadlines.control).await
    }

    /// Sends a request whose body, if any, is in memory; the response has a successful status.
    pub(super) async fn execute(
        &self,
        operation: &'static str,
        request: Request,
        deadline: Duration,
    ) -> Result<Response, StoreError> {
        let answer = timeout(deadline, self.0.http.execute(request)).await;
        let response = answer.map_err(|_| self.timed_out(operation, deadline))?;
        self.accept(operation, response.map_err(|error| self.transport(operation, error))?).await
    }

    /// [`Store::control`] for responses that are a document with this root.
    pub(super) async fn control_document<T: DeserializeOwned>(
        &self,
        operation: &'static str,
        bucket: &Bucket,
        path: &str,
        command: Command<'_>,
        root: &str,
    ) -> Result<T, StoreError> {
        let response = self.control(operation, bucket, path, command).await?;
        let body = self.read_document(operation, response, self.settings().deadlines.control).await?;
        xml::read(root, &body).map_err(|detail| self.protocol(operation, detail))
    }

    /// The response to a request with a body that rust-s3 cannot create.
    pub(super) async fn post_document(
        &self,
        operation: &'static str,
        bucket: &Bucket,
        path: &str,
        command: Command<'_>,
        body: String,
        deadline: Duration,
    ) -> Result<Bytes, StoreError> {
        let signed = sign::post(bucket, path, command, body).await;
        let request = signed.map_err(|error| self.invalid(operation, &error))?;
        let response = self.execute(operation, request, deadline).await?;
        self.read_document(operation, response, deadline).await
    }

    /// Sends `request` with `body`; the response has a successful status.
    pub(super) async fn send_body(
        &self,
        operation: &'static str,
        mut request: Request,
        body: Body,
    ) -> Result<Response, StoreError> {
        request.headers_mut().insert(CONTENT_LENGTH, body.length().into());

        let small = match &body {
            Body::Bytes(bytes) if body.length() <= SMALL_BODY => Some(bytes.clone()),
            Body::Pieces(pieces) if body.length() <= SMALL_BODY => Some(pieces.joined()),
            _ => None,
        };
        if let Some(bytes) = small {
            *request.body_mut() = Some(bytes.into());
            return self.execute(operation, request, self.settings().deadlines.idle).await;
        }

        let (watched, progress) = watch(body);
        self.send_watched(operation, request, watched, &progress, |watched| watched).await
    }

    /// Sends `request` with `body`, framed and followed by a checksum. Returns the checksum with the response.
    pub(super) async fn send_with_trailer(
        &self,
        operation: &'static str,
        request: Request,
        body: Body,
        crc: TrailerCrc,
    ) -> Result<(Response, Crc64Nvme), StoreError> {
        let (watched, progress) = watch(body);
        let trailer = Trailer::default();
        let frame = |watched| chunked::frame(watched, Arc::clone(&trailer)).with_crc(crc);
        let response = self.send_watched(operation, request, watched, &progress, frame).await?;
        match trailer.get() {
            Some(crc) => Ok((response, *crc)),
            None => Err(self.protocol(operation, "success before the end of the body")),
        }
    }

    /// Sends `request` with the body encoded by `encode`, as long as there is progress.
    async fn send_watched<S>(
        &self,
        operation: &'static str,
        mut request: Request,
        mut watched: Watched,
        progress: &Progress,
        encode: impl FnOnce(Watched) -> S,
    ) -> Result<Response, StoreError>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let idle = self.settings().deadlines.idle;
        if watched.length() == 0 {
            // The connection would not poll an empty body, and would therefore not detect that its source failed.
            timeout(idle, watched.finish()).await.map_err(|_| self.source_stalled(operation))?;
        }
        if let Some(cause) = progress.take_failure() {
            return Err(self.error(operation, StoreErrorKind::Source(cause), ""));
        }
        *request.body_mut() = Some(reqwest::Body::wrap_stream(encode(watched)));
        let result = tokio::select! {
            result = self.0.http.execute(request) => result,
            stalled = progress.stalled(idle) => {
                return Err(match stalled {
                    Stalled::Source => self.source_stalled(operation),
                    Stalled::Store => self.timed_out(operation, idle),
                });
            }
        };
        // A failed source also breaks the connection: check first which side failed.
        if let Some(cause) = progress.take_failure() {
            return Err(self.error(operation, StoreErrorKind::Source(cause), ""));
        }
        self.accept(operation, result.map_err(|error| self.transport(operation, error))?).await
    }

    /// Returns a successful response, and maps any other to an error.
    async fn accept(&self, operation: &'static str, response: Response) -> Result<Response, StoreError> {
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(read_retry_after);
        let skewed = response.headers().get(DATE).and_then(read_date).is_some_and(is_far_from_now);
        // If the body cannot be read, the status is sufficient.
        let reading = read_up_to(response, ERROR_LIMIT);
        let body = timeout(self.settings().deadlines.control, reading).await;
        let document = body.ok().and_then(Result::ok).flatten().and_then(|body| xml::read_error(&body));
        let (code, message) = document.map(|document| (document.code, document.message)).unwrap_or_default();
        // Expired presigned requests are rejected like missing permissions.
        let code = match code.as_str() {
            "" | "AccessDenied" | "RequestExpired" if status == 403 && skewed => CLOCK_SKEW.to_owned(),
            _ => code,
        };
        let kind = StoreErrorKind::Answer { status, code };
        Err(self.error(operation, kind, message).with_retry_after(retry_after))
    }

    pub(super) async fn read_document(
        &self,
        operation: &'static str,
        response: Response,
        deadline: Duration,
    ) -> Result<Bytes, StoreError> {
        let reading = timeout(deadline, read_up_to(response, ANSWER_LIMIT)).await;
        let body = reading.map_err(|_| self.timed_out(operation, deadline))?;
        body.map_err(|error| self.body_broken(operation, error))?
            .ok_or_else(|| self.error(operation, StoreErrorKind::Protocol, "the response is too long"))
    }

    pub(super) fn protocol(&self, operation: &'static str, detail: impl Into<String>) -> StoreError {
        self.error(operation, StoreErrorKind::Protocol, detail)
    }

    pub(super) fn timed_out(&self, operation: &'static str, deadline: Duration) -> StoreError {
        let detail = format!("no progress for {} s", deadline.as_secs_f32());
        self.error(operation, StoreErrorKind::Timeout, detail)
    }

    fn source_stalled(&self, operation: &'static str) -> StoreError {
        let cause = std::io::Error::new(std::io::ErrorKind::TimedOut, "the source is inactive");
        self.error(operation, StoreErrorKind::Source(Box::new(cause)), "")
    }

    /// A request without a response.
    pub(super) fn transport(&self, operation: &'static str, error: reqwest::Error) -> StoreError {
        let kind = if error.is_connect() {
            StoreErrorKind::Connect
        } else if error.is_timeout() {
            StoreErrorKind::Timeout
        } else if error.is_builder() {
            StoreErrorKind::Invalid
        } else {
            StoreErrorKind::Connection
        };
        self.error(operation, kind, causes(error))
    }

    /// An incomplete response. If the operating system reports no error, the peer closed the connection early.
    pub(super) fn body_broken(&self, operation: &'static str, error: reqwest::Error) -> StoreError {
        let mut cause = error.source();
        let mut kind = StoreErrorKind::Truncated;
        while let Some(inner) = cause {
            if inner.is::<std::io::Error>() {
                kind = StoreErrorKind::Connection;
            }
            cause = inner.source();
        }
        self.error(operation, kind, causes(error))
    }
}

fn method(verb: &HttpMethod) -> Method {
    match verb {
        HttpMethod::Delete => Method::DELETE,
        HttpMethod::Get => Method::GET,
        HttpMethod::Put => Method::PUT,
        HttpMethod::Post => Method::POST,
        HttpMethod::Head => Method::HEAD,
    }
}

/// The body of a response; `None` if it is longer than `limit`.
async fn read_up_to(mut response: Response, limit: usize) -> Result<Option<Bytes>, reqwest::Error> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body.freeze()))
}

/// The messages of an error and all its causes, without the URL: presigned URLs are secret.
fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        words.push_str(": ");
        words.push_str(&inner.to_string());
        cause = inner.source();
    }
    words
}

/// Seconds or a date (RFC 9110 section 10.2.3).
fn read_retry_after(value: &HeaderValue) -> Option<Duration> {
    let text = value.to_str().ok()?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    (read_date(value)? - Utc::now()).to_std().ok()
}

/// An HTTP date (RFC 9110 section 5.6.7).
fn read_date(value: &HeaderValue) -> Option<DateTime<Utc>> {
    Some(DateTime::parse_from_rfc2822(value.to_str().ok()?).ok()?.to_utc())
}

fn is_far_from_now(time: DateTime<Utc>) -> bool {
    (time - Utc::now()).abs() > SKEW_LIMIT
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let read = |text: &str| read_retry_after(&HeaderValue::from_str(text).unwrap());
        assert_eq!(read("7"), Some(Duration::from_secs(7)));
        assert_eq!(read("soon"), None);
        assert_eq!(read("Wed, 21 Oct 2015 07:28:00 GMT"), None);
        let later = (Utc::now() + TimeDelta::seconds(60)).format("%a, %d %b %Y %H:%M:%S GMT");
        assert!(read(&later.to_string()).is_some_and(|pause| pause > Duration::from_secs(50)));
    }
}
