//! Streams the content of a file, whole or in part, from any store that has it, or creates a presigned URL for it.

use std::time::{Duration, SystemTime};

use actix_web::body::SizedStream;
use actix_web::http::header::{self, HeaderValue, HttpDate};
use actix_web::http::{Method, StatusCode};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use bytes::Bytes;
use chrono::TimeDelta;
use futures_util::{TryStreamExt, stream};
use nightferry_api_types::file::{Disposition, Download, DownloadUrl, DownloadUrlRequest};
use nightferry_api_types::placement::Archived;
use nightferry_core::error::{Error, PendingRestore};
use nightferry_core::file::download::{self, Target};
use nightferry_core::ids::FileId;
use nightferry_core::store::{ByteRange, StoreError};

use crate::error_response::{ApiError, Result};
use crate::extract::access::FilesRead;
use crate::extract::{Call, Id, OptionalJson, Query, choice, whole_number};
use crate::http::conditional::{self, Verdict};
use crate::http::content_type::is_active;
use crate::http::disposition;
use crate::http::range::{self, Wanted};
use crate::metrics;
use crate::middleware::OnRuntime;

/// Downloads a file.
///
/// Supports a single `Range`, `If-Range`, and the conditions of RFC 9110. The ETag is the SHA-256 of the content.
#[utoipa::path(get, path = "/api/files/{id}/download", operation_id = "download_file", tag = "files",
    params(
        ("id" = uuid::Uuid, Path, description = "The file"),
        Download,
        ("Range" = Option<String>, Header, description = "`bytes=0-99`, `bytes=100-` or `bytes=-100`"),
        ("If-Range" = Option<String>, Header, description = "ETag or date for which the range is valid"),
        ("If-None-Match" = Option<String>, Header, description = "ETags that the client already has"),
        ("If-Match" = Option<String>, Header, description = "ETags that the client expects"),
    ),
    responses(
        (status = 200, description = "The whole file", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 202, description = "The file is archived: a restore was requested, try again later", body = Archived),
        (status = 206, description = "The requested range", content_type = "application/octet-stream", body = Vec<u8>),
        (status = 304, description = "The client already has the content"),
        (status = 412, description = "`PRECONDITION_FAILED`"),
        (status = 416, description = "`RANGE_NOT_SATISFIABLE`"),
        (status = 502, description = "`STORE_ERROR`"),
    ))]
pub(crate) async fn download(
    call: Call<FilesRead>,
    Id(id): Id<FileId>,
    Query(query): Query<Download>,
) -> Result<HttpResponse> {
    let version = whole_number("version", query.version.as_deref(), 1..=i64::from(i32::MAX))?;
    let words = [("inline", Disposition::Inline), ("attachment", Disposition::Attachment)];
    let disposition = choice("disposition", query.disposition.as_deref(), &words)?.unwrap_or_default();
    let version = version.and_then(|version| i32::try_from(version).ok());
    let target = download::find(&call.context, call.user().id, id, version).await?;

    let etag = format!("\"{}\"", target.sha256);
    let modified = SystemTime::from(target.modified);
    let ranges = match conditional::evaluate(call.request.headers(), &etag, modified) {
        Verdict::Failed => return Err(Error::PreconditionFailed.into()),
        Verdict::NotModified => return Ok(validators(StatusCode::NOT_MODIFIED, etag, modified).finish()),
        Verdict::Proceed { ranges } => ranges,
    };
    let (status, range) = match range_of(&call.request, &target, ranges) {
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
    if call.request.method() == Method::HEAD {
        return Ok(response
            .body(SizedStream::new(length, stream::empty::<std::result::Result<Bytes, StoreError>>())));
    }
    let range = range.map(|range| ByteRange { first: *range.start(), last: Some(*range.end()) });
    let bytes = match download::open(&call.files, &target, range).await {
        Err(Error::Archived(restore)) => return Ok(archived(&call, &restore)),
        opened => opened?,
    };
    let mut sent = Sent(0);
    let bytes = OnRuntime::new(&call.runtime, bytes).inspect_ok(move |chunk| sent.add(chunk));
    Ok(response.body(SizedStream::new(length, bytes)))
}

/// Returns the headers of a download without the content.
#[utoipa::path(head, path = "/api/files/{id}/download", operation_id = "head_download", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file"), Download),
    responses(
        (status = 200, description = "The file's headers"),
        (status = 304, description = "The client already has the content"),
        (status = 412, description = "`PRECONDITION_FAILED`"),
    ))]
pub(crate) async fn head(
    call: Call<FilesRead>,
    id: Id<FileId>,
    query: Query<Download>,
) -> Result<HttpResponse> {
    download(call, id, query).await
}

/// The content is not available yet: returns the state of the restore, and when to retry.
fn archived(call: &Call<FilesRead>, restore: &PendingRestore) -> HttpResponse {
    let wait = restore.next_check_at.map_or(1, |at| (at - call.context.clock.now()).num_seconds().max(1));
    HttpResponse::Accepted()
        .insert_header((header::RETRY_AFTER, wait.to_string()))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(Archived { restore: restore.into() })
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

/// The number of bytes sent; recorded when the content is complete or the client has disconnected.
struct Sent(u64);

impl Sent {
    fn add(&mut self, chunk: &Bytes) {
        self.0 = self.0.saturating_add(u64::try_from(chunk.len()).unwrap_or(0));
    }
}

impl Drop for Sent {
    fn drop(&mut self) {
        metrics::downloaded(self.0);
    }
}

/// The default lifetime of a presigned URL, in seconds.
const DEFAULT_LIFETIME: i64 = 3600;
/// The maximum lifetime of a presigned URL in S3 (seven days), in seconds.
const MAX_LIFETIME: i64 = 604_800;

/// Returns a presigned URL that downloads directly from the store. It works for anyone until it expires.
///
/// Not available for a file whose only copies are encrypted: download it through this service.
#[utoipa::path(post, path = "/api/files/{id}/download-url", operation_id = "make_download_url", tag = "files",
    params(("id" = uuid::Uuid, Path, description = "The file")), request_body = Option<DownloadUrlRequest>,
    responses(
        (status = 200, description = "The presigned URL", body = DownloadUrl),
        (status = 409, description = "`CONFLICT`: every copy is encrypted"),
        (status = 502, description = "`STORE_ERROR`"),
    ))]
pub(crate) async fn download_url(
    call: Call<FilesRead>,
    Id(id): Id<FileId>,
    OptionalJson(body): OptionalJson<DownloadUrlRequest>,
) -> Result<HttpResponse> {
    let target = download::find(&call.context, call.user().id, id, body.version).await?;
    let life = body.expires_in.unwrap_or(DEFAULT_LIFETIME);
    let expires =
        u64::try_from(life).ok().filter(|life| (1..=MAX_LIFETIME.unsigned_abs()).contains(life)).ok_or_else(
            || ApiError::field("expires_in", format!("must be a number of seconds from 1 to {MAX_LIFETIME}")),
        )?;
    let disposition = disposition::header(Disposition::Attachment, &target.filename);
    let expires_at = call.context.clock.now() + TimeDelta::seconds(life);
    let url = download::presign(&call.files, &target, &disposition, Duration::from_secs(expires)).await?;
    Ok(HttpResponse::Ok().json(DownloadUrl { url, expires_at }))
}
