//! Signs, in their headers, requests that rust-s3 would hold in memory: streamed content, parts with a trailing
//! checksum, and POST requests with our own body. The components are those of rust-s3; only the signed body hash is
//! replaced.
//!
//! Presigned URLs would also work for streamed content, but servers parse and decode their query strings again for
//! every route: they are used for clients only.

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{
    AUTHORIZATION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
};
use reqwest::{Method, Request, Url};
use s3::Bucket;
use s3::command::{Command, Multipart};
use s3::error::S3Error;
use s3::request::Request as _;
use s3::request::tokio_backend::ReqwestRequest;
use s3::signing;

use super::UploadId;
use super::chunked;
use super::options::CHECKSUM_CRC64NVME;
use crate::checksum::Sha256;

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");
const DECODED_LENGTH: HeaderName = HeaderName::from_static("x-amz-decoded-content-length");
const TRAILER: HeaderName = HeaderName::from_static("x-amz-trailer");

/// The body hash if a checksum in the headers covers the body, or if there is none.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// The body hash if a checksum follows the body.
const UNSIGNED_WITH_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// The request of `command` with `body` instead of its own, signed in its headers (AWS Signature Version 4).
pub(super) async fn post(
    bucket: &Bucket,
    path: &str,
    command: Command<'_>,
    body: String,
) -> Result<Request, S3Error> {
    let template = ReqwestRequest::new(bucket, path, command).await?;
    document(bucket, &template, template.url()?, body).await
}

/// The request to restore an archived object, with its document.
pub(super) async fn restore(bucket: &Bucket, path: &str, body: String) -> Result<Request, S3Error> {
    let template = ReqwestRequest::new(bucket, path, Command::GetObject).await?;
    let mut url = template.url()?;
    url.query_pairs_mut().append_pair("restore", "");
    document(bucket, &template, url, body).await
}

/// The request for the versioning of a bucket.
pub(super) async fn versioning(bucket: &Bucket) -> Result<Request, S3Error> {
    let template = ReqwestRequest::new(bucket, "/", Command::GetObject).await?;
    let mut url = template.url()?;
    url.query_pairs_mut().append_pair("versioning", "");
    signed(bucket, &template, url, Method::GET, HeaderMap::new(), UNSIGNED).await
}

/// A POST request to `url` with a document.
async fn document(
    bucket: &Bucket,
    template: &ReqwestRequest<'_>,
    url: Url,
    body: String,
) -> Result<Request, S3Error> {
    let mut headers: HeaderMap = bucket.extra_headers().clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    let hash = Sha256::of(body.as_bytes()).to_string();
    let mut request = signed(bucket, template, url, Method::POST, headers, &hash).await?;
    *request.body_mut() = Some(body.into());
    Ok(request)
}

/// The request for an object, or for the part selected by `headers`.
pub(super) async fn get(bucket: &Bucket, path: &str, headers: HeaderMap) -> Result<Request, S3Error> {
    let template = ReqwestRequest::new(bucket, path, Command::GetObject).await?;
    signed(bucket, &template, template.url()?, Method::GET, headers, UNSIGNED).await
}

/// The request that sends an object, or one part of it; the caller adds the body. With `framed`, the body has that many
/// bytes, and is framed by [`chunked`] and followed by its checksum.
pub(super) async fn put(
    bucket: &Bucket,
    path: &str,
    part: Option<(&UploadId, u32)>,
    mut headers: HeaderMap,
    framed: Option<u64>,
) -> Result<Request, S3Error> {
    let multipart = part.map(|(upload, number)| Multipart::new(number, upload.as_str()));
    // Determines the URL; all other properties are in our own headers.
    let command = Command::PutObject { content: &[], content_type: "", custom_headers: None, multipart };
    let template = ReqwestRequest::new(bucket, path, command).await?;
    let mut hash = UNSIGNED;
    if let Some(length) = framed {
        hash = UNSIGNED_WITH_TRAILER;
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("aws-chunked"));
        headers.insert(CONTENT_LENGTH, chunked::encoded_length(length).into());
        headers.insert(DECODED_LENGTH, length.into());
        headers.insert(TRAILER, HeaderValue::from_str(CHECKSUM_CRC64NVME.as_str())?);
    }
    signed(bucket, &template, template.url()?, Method::PUT, headers, hash).await
}

/// A request to `url`, of the same host as `template`, with `headers`, all of them signed; `hash` is the body hash.
async fn signed(
    bucket: &Bucket,
    template: &ReqwestRequest<'_>,
    url: Url,
    method: Method,
    mut headers: HeaderMap,
    hash: &str,
) -> Result<Request, S3Error> {
    headers.insert(HOST, HeaderValue::try_from(template.host_header())?);
    headers.insert(CONTENT_SHA256, HeaderValue::try_from(hash)?);
    headers.insert(AMZ_DATE, HeaderValue::try_from(template.long_date()?)?);
    if let Some(token) = bucket.session_token().await? {
        headers.insert(SECURITY_TOKEN, HeaderValue::try_from(token)?);
    }

    let canonical = signing::canonical_request(method.as_str(), &url, &headers, hash)?;
    let text = template.string_to_sign(&canonical)?;
    let mut hmac = Hmac::<sha2::Sha256>::new_from_slice(&template.signing_key().await?)
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    hmac.update(text.as_bytes());
    let authorization = signing::authorization_header(
        &bucket.access_key().await?.unwrap_or_default(),
        &template.datetime(),
        &bucket.region(),
        &signing::signed_header_string(&headers),
        &hex::encode(hmac.finalize().into_bytes()),
    )?;
    headers.insert(AUTHORIZATION, HeaderValue::try_from(authorization)?);

    let mut request = Request::new(method, url);
    *request.headers_mut() = headers;
    Ok(request)
}
