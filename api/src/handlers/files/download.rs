//! Streams the content of a file, whole or in part, from any store that has it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use actix_web::body::SizedStream;
use actix_web::http::header::{self, HeaderValue, HttpDate};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder, web};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use nightferry_api_types::{file, placement};
use nightferry_core::error::{Error, PendingRestore};
use nightferry_core::file::download::{self, DownloadBody, Target};
use nightferry_core::ids::FileId;
use nightferry_core::store::{ByteRange, StoreError};

use crate::error_response::Result;
use crate::extract::access::FilesRead;
use crate::extract::{Caller, Id, Query, choice, whole_number};
use crate::http::conditional::{self, Verdict};
use crate::http::content_type::is_active;
use crate::http::disposition::{self, Disposition};
use crate::http::range::{self, Wanted};
use crate::metrics;
use crate::middleware::OnRuntime;
use crate::state::Api;

/// Downloads a file.
///
/// Supports a single `Range`, `If-Range`, and the conditions of RFC 9110. The ETag is the SHA-256 of the content.
#[utoipa::path(get, path = "/api/files/{id}/download", operation_id = "download_file", tag = "files",
    params(
        ("id" = uuid::Uuid, Path, description = "The file"),
        file::Download,
        ("Range" = Option<String>, Header, description = "`bytes=0-99`, `bytes=100-` or `bytes=-100`"),
        ("If-Range" = Option<String>, Header, description = "ETag or date for which the range is valid"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the client already has"),
        ("If-Match" = Option<String>, Header, description = "ETags that the client expects"),
    ),
    responses(
        (status = 200, description = "The whole file", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 202, description = "The file is archived: a restore was requested, try again later", body = placement::Archived),
        (status = 206, description = "The requested range", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 304, description = "The client already has the content"),
        (status = 412, description = "`PRECONDITION_FAILED`"),
        (status = 416, description = "`RANGE_NOT_SATISFIABLE`"),
        (status = 502, description = "`STORE_ERROR`"),
    ))]
pub(crate) async fn download(
    caller: Caller<FilesRead>,
    api: web::Data<Api>,
    request: HttpRequest,
    Id(id): Id<FileId>,
    Query(query): Query<file::Download>,
) -> Result<HttpResponse> {
    answer(&api, &caller, &request, id, &query).await
}

/// Returns the headers of a download without the content.
#[utoipa::path(head, path = "/api/files/{id}/download", operation_id = "head_download", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file"), file::Download),
    responses(
        (status = 200, description = "The file's headers"),
        (status = 304, description = "The client already has the content"),
        (status = 412, description = "`PRECONDITION_FAILED`"),
    ))]
pub(crate) async fn head(
    caller: Caller<FilesRead>,
    api: web::Data<Api>,
    request: HttpRequest,
    Id(id): Id<FileId>,
    Query(query): Query<file::Download>,
) -> Result<HttpResponse> {
    answer(&api, &caller, &request, id, &query).await
}

async fn answer(
    api: &Api,
    caller: &Caller<FilesRead>,
    request: &HttpRequest,
    id: FileId,
    query: &file::Download,
) -> Result<HttpResponse> {
    let version = whole_number("version", query.version.as_deref(), 1..=i64::from(i32::MAX))?;
    let words = [("inline", Disposition::Inline), ("attachment", Disposition::Attachment)];
    let disposition = choice("disposition", query.disposition.as_deref(), &words)?.unwrap_or_default();
    let version = version.and_then(|version| i32::try_from(version).ok());
    let target = download::find(&api.context, caller.user.id, id, version).await?;

    let etag = format!("\"{}\"", target.sha256);
    let modified = SystemTime::from(target.modified);
    let ranges = match conditional::evaluate(request.headers(), &etag, modified) {
        Verdict::Failed => return Err(Error::PreconditionFailed.into()),
        Verdict::NotModified => return Ok(validators(StatusCode::NOT_MODIFIED, etag, modified).finish()),
        Verdict::Proceed { ranges } => ranges,
    };
    let (status, range) = match range_of(request, &target, ranges) {
        Wanted::Whole => (StatusCode::OK, None),
        Wanted::Part(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Wanted::Unsatisfiable => return Err(Error::RangeNotSatisfiable { size: target.size }.into()),
    };

    let mut response = validators(status, etag, modified);
    response
        .insert_header((header::CONTENT_TYPE, content_type(&target)))
        .insert_header((header::CONTENT_DISPOSITION, disposition::header(disposition, &target.filename)))
        .insert_header((header::ACCEPT_RANGES, "bytes"));
    if is_active(&target.content_type) {
        // Displayed inline, the content would run in the origin of this service.
        response.insert_header((header::CONTENT_SECURITY_POLICY, "sandbox"));
    }
    let mut length = target.size;
    if let Some(range) = &range {
        let (first, last) = (range.start(), range.end());
        response.insert_header((header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", target.size)));
        length = last.saturating_sub(*first).saturating_add(1);
    }
    if request.method() == Method::HEAD {
        return Ok(response
            .body(SizedStream::new(length, stream::empty::<std::result::Result<Bytes, StoreError>>())));
    }
    let range = range.map(|range| ByteRange { first: *range.start(), last: Some(*range.end()) });
    let bytes = match download::open(&api.files, &target, range).await {
        Err(Error::Archived(restore)) => return Ok(archived(api, &restore)),
        opened => opened?,
    };
    let bytes = Outgoing { bytes: OnRuntime::new(&api.runtime, bytes), sent: 0 };
    Ok(response.body(SizedStream::new(length, bytes)))
}

/// The content is not available yet: returns the state of the restore, and when to retry.
fn archived(api: &Api, restore: &PendingRestore) -> HttpResponse {
    let wait = restore.next_check_at.map_or(1, |at| (at - api.context.clock.now()).num_seconds().max(1));
    HttpResponse::Accepted()
        .insert_header((header::RETRY_AFTER, wait.to_string()))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(placement::Archived { restore: restore.into() })
}

/// A range is only valid for GET (RFC 9110 section 14.2).
fn range_of(request: &HttpRequest, target: &Target, ranges: bool) -> Wanted {
    let header = request.headers().get(header::RANGE).and_then(|value| value.to_str().ok());
    match header {
        Some(header) if ranges && request.method() == Method::GET => range::wanted(header, target.size),
        _ => Wanted::Whole,
    }
}

/// A response with the headers that identify the content.
fn validators(status: StatusCode, etag: String, modified: SystemTime) -> HttpResponseBuilder {
    let mut response = HttpResponse::build(status);
    response
        .insert_header((header::ETAG, etag))
        .insert_header((header::LAST_MODIFIED, HttpDate::from(modified)))
        // Cacheable only by the client, and only with revalidation.
        .insert_header((header::CACHE_CONTROL, "private, no-cache"));
    response
}

fn content_type(target: &Target) -> HeaderValue {
    HeaderValue::from_str(&target.content_type)
        .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"))
}

/// The content being sent; counted when it is complete or the client has disconnected.
struct Outgoing {
    bytes: OnRuntime<DownloadBody>,
    sent: u64,
}

impl Stream for Outgoing {
    type Item = std::result::Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.bytes.poll_next_unpin(cx);
        if let Poll::Ready(Some(Ok(chunk))) = &next {
            self.sent = self.sent.saturating_add(u64::try_from(chunk.len()).unwrap_or(0));
        }
        next
    }
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        metrics::downloaded(self.sent);
    }
}
