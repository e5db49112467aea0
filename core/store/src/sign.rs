//! Signs, in their headers, the requests that rust-s3 would want to hold whole: bytes that are streamed, a part whose
//! checksum follows its bytes, and a POST with a body of our own. Their parts are rust-s3's; only what is signed of the
//! body is put in another place.
//!
//! Presigned URLs would do for streamed bytes too, but a server parses and decodes their queries again for every route
//! that it tries: those are for clients.

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

/// In place of the body's hash, where a checksum in the headers stands for the body, or where there is none.
const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// In place of the body's hash, where a checksum follows the body.
const UNSIGNED_WITH_TRAILER: &str = "STREAMING-UNSIGNED-PAYLOAD-TRAILER";

/// The request of `command` with `body` in place of its own, signed in its headers (AWS Signature Version 4).
pub(super) async fn post(
    bucket: &Bucket,
    path: &str,
    command: Command<'_>,
    body: String,
) -> Result<Request, S3Error> {
    let template = ReqwestRequest::new(bucket, path, command).await?;
    let mut headers: HeaderMap = bucket.extra_headers().clone();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    let hash = Sha256::of(body.as_bytes()).to_string();
    let mut request = signed(bucket, &template, Method::POST, headers, &hash).await?;
    *request.body_mut() = Some(body.into());
    Ok(request)
}

/// The request to restore an archived object, with its document.
pub(super) async fn restore(bucket: &Bucket, path: &str, body: String) -> Result<Request, S3Error> {
    let template = ReqwestRequest::new(bucket, path, Command::GetObject).await?;
    let mut url = template.url()?;
    url.query_pairs_mut().append_pair("restore", "");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    let hash = Sha256::of(body.as_bytes()).to_string();
    let mut request = signed_to(bucket, &template, url, Method::POST, headers, &hash).await?;
    *request.body_mut() = Some(body.into());
    Ok(request)
}

/// The request for an object, or for what `headers` ask of it.
pub(super) async fn get(bucket: &Bucket, path: &str, headers: HeaderMap) -> Result<Request, S3Error> {
    let template = ReqwestRequest::new(bucket, path, Command::GetObject).await?;
    signed(bucket, &template, Method::GET, headers, UNSIGNED).await
}

/// The request that sends an object; its body is for the caller to add.
pub(super) async fn put(bucket: &Bucket, path: &str, headers: HeaderMap) -> Result<Request, S3Error> {
    let template = ReqwestRequest::new(bucket, path, put_command(None)).await?;
    signed(bucket, &template, Method::PUT, headers, UNSIGNED).await
}

/// The request that sends part `number`; its body is for the caller to add.
pub(super) async fn part(
    bucket: &Bucket,
    path: &str,
    upload: &UploadId,
    number: u32,
    headers: HeaderMap,
) -> Result<Request, S3Error> {
    let command = put_command(Some(Multipart::new(number, upload.as_str())));
    let template = ReqwestRequest::new(bucket, path, command).await?;
    signed(bucket, &template, Method::PUT, headers, UNSIGNED).await
}

/// The request that sends part `number` of `length` bytes, framed by [`chunked`]; its body is for the caller to add.
pub(super) async fn part_with_trailer(
    bucket: &Bucket,
    path: &str,
    upload: &UploadId,
    number: u32,
    length: u64,
) -> Result<Request, S3Error> {
    let command = put_command(Some(Multipart::new(number, upload.as_str())));
    let template = ReqwestRequest::new(bucket, path, command).await?;
    let headers = with_trailer(HeaderMap::new(), length)?;
    signed(bucket, &template, Method::PUT, headers, UNSIGNED_WITH_TRAILER).await
}

/// The request that sends an object of `length` bytes, framed by [`chunked`]; its body is for the caller to add.
pub(super) async fn put_with_trailer(
    bucket: &Bucket,
    path: &str,
    length: u64,
    headers: HeaderMap,
) -> Result<Request, S3Error> {
    let template = ReqwestRequest::new(bucket, path, put_command(None)).await?;
    let headers = with_trailer(headers, length)?;
    signed(bucket, &template, Method::PUT, headers, UNSIGNED_WITH_TRAILER).await
}

/// Adds what announces a framed body of `length` bytes and the checksum behind it.
fn with_trailer(mut headers: HeaderMap, length: u64) -> Result<HeaderMap, S3Error> {
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("aws-chunked"));
    headers.insert(CONTENT_LENGTH, chunked::encoded_length(length).into());
    headers.insert(DECODED_LENGTH, length.into());
    headers.insert(TRAILER, HeaderValue::from_str(CHECKSUM_CRC64NVME.as_str())?);
    Ok(headers)
}

/// Names what is sent; the rest of it is said in headers of our own.
fn put_command(multipart: Option<Multipart<'_>>) -> Command<'_> {
    Command::PutObject { content: &[], content_type: "", custom_headers: None, multipart }
}

/// A request to the URL of `template` with `headers`, all of them signed; `hash` stands for the body.
async fn signed(
    bucket: &Bucket,
    template: &ReqwestRequest<'_>,
    method: Method,
    headers: HeaderMap,
    hash: &str,
) -> Result<Request, S3Error> {
    signed_to(bucket, template, template.url()?, method, headers, hash).await
}

/// As [`signed`], to another URL of the same host.
async fn signed_to(
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
