//! Signs the one request that rust-s3 cannot make itself: a POST with a body of our own. Its parts are rust-s3's; only
//! the hash of the body is put in another place.

use hmac::{Hmac, KeyInit as _, Mac as _};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Request};
use s3::Bucket;
use s3::command::Command;
use s3::error::S3Error;
use s3::request::Request as _;
use s3::request::tokio_backend::ReqwestRequest;
use s3::signing;

use crate::checksum::Sha256;

const CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");
const AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const SECURITY_TOKEN: HeaderName = HeaderName::from_static("x-amz-security-token");

/// The request of `command` with `body` in place of its own, signed in its headers (AWS Signature Version 4).
pub(super) async fn post(
    bucket: &Bucket,
    path: &str,
    command: Command<'_>,
    body: String,
) -> Result<Request, S3Error> {
    let template = ReqwestRequest::new(bucket, path, command).await?;
    let url = template.url()?;
    let hash = Sha256::of(body.as_bytes()).to_string();

    let mut headers: HeaderMap = bucket.extra_headers().clone();
    headers.insert(HOST, HeaderValue::try_from(template.host_header())?);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    headers.insert(CONTENT_SHA256, HeaderValue::try_from(&hash)?);
    headers.insert(AMZ_DATE, HeaderValue::try_from(template.long_date()?)?);
    if let Some(token) = bucket.session_token().await? {
        headers.insert(SECURITY_TOKEN, HeaderValue::try_from(token)?);
    }

    let canonical = signing::canonical_request(Method::POST.as_str(), &url, &headers, &hash)?;
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

    let mut request = Request::new(Method::POST, url);
    *request.headers_mut() = headers;
    *request.body_mut() = Some(body.into());
    Ok(request)
}
