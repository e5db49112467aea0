//! JSON bodies: small, strict, and read within a deadline.

use actix_web::dev::Payload;
use actix_web::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::{FromRequest, HttpRequest, web};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::error_response::{ApiError, Result};
use crate::state::Api;

/// Largest JSON body, in bytes.
const LIMIT: usize = 64 * 1024;

pub(crate) struct Json<T>(pub(crate) T);

/// An optional body; if it is absent or `null`, all fields have their defaults.
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = read(request, payload);
        Box::pin(async move { parse(&json(body.await?)?).map(Self) })
    }
}

impl<T: DeserializeOwned + Default + 'static> FromRequest for OptionalJson<T> {
    type Error = ApiError;
    type Future = LocalBoxFuture<'static, Result<Self>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = read(request, payload);
        Box::pin(async move {
            let body = body.await?;
            if body.0.is_empty() {
                return Ok(Self(T::default()));
            }
            Ok(Self(parse::<Option<T>>(&json(body)?)?.unwrap_or_default()))
        })
    }
}

fn json((bytes, is_json): (Bytes, bool)) -> Result<Bytes> {
    if is_json { Ok(bytes) } else { Err(ApiError::MediaType("application/json")) }
}

/// The bytes, and whether the request declares them as JSON.
fn read(
    request: &HttpRequest,
    payload: &mut Payload,
) -> impl Future<Output = Result<(Bytes, bool)>> + 'static {
    let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
    let is_json = header(CONTENT_TYPE)
        .and_then(|text| text.parse::<mime::Mime>().ok())
        .is_some_and(|said| said.subtype() == mime::JSON || said.suffix() == Some(mime::JSON));
    let announced = header(CONTENT_LENGTH).and_then(|text| text.parse::<usize>().ok());
    // Half of the deadline of the request: otherwise the request deadline would be reached first, and look like a
    // database timeout.
    let deadline =
        request.app_data::<web::Data<Api>>().map(|api| api.context.config.server.request_timeout / 2);
    let mut payload = payload.take();
    async move {
        if announced.is_some_and(|length| length > LIMIT) {
            return Err(ApiError::BodyTooLarge(LIMIT));
        }
        let collecting = async {
            let mut bytes = BytesMut::new();
            while let Some(chunk) = payload.next().await {
                let chunk = chunk.map_err(|_| ApiError::bad_request("The request body is incomplete."))?;
                if bytes.len().saturating_add(chunk.len()) > LIMIT {
                    return Err(ApiError::BodyTooLarge(LIMIT));
                }
                bytes.extend_from_slice(&chunk);
            }
            Ok((bytes.freeze(), is_json))
        };
        match deadline {
            Some(deadline) => tokio::time::timeout(deadline, collecting)
                .await
                .unwrap_or_else(|_| Err(ApiError::bad_request("The request body did not arrive in time."))),
            None => collecting.await,
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    if holds_nul(bytes) {
        return Err(ApiError::bad_request("Strings must not contain the character NUL."));
    }
    serde_json::from_slice(bytes).map_err(|error| match error.classify() {
        Category::Data => ApiError::field("body", error.to_string()),
        _ => ApiError::bad_request(format!("The request body is not valid JSON: {error}.")),
    })
}

/// Whether a string in the JSON contains `\u0000`: Postgres cannot store it.
pub(crate) fn holds_nul(bytes: &[u8]) -> bool {
    let mut escaped = false;
    bytes.iter().enumerate().any(|(at, byte)| {
        let escape = escaped;
        escaped = !escaped && *byte == b'\\';
        escape && bytes.get(at..).is_some_and(|rest| rest.starts_with(b"u0000"))
    })
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Name {
        #[allow(dead_code, reason = "only parsed")]
        name: String,
    }

    fn code(body: &[u8]) -> &'static str {
        parse::<Name>(body).unwrap_err().code().as_str()
    }

    #[test]
    fn malformed_json_and_invalid_data_are_distinguished() {
        assert!(parse::<Name>(br#"{"name":"a\\u0000b"}"#).is_ok());
        assert_eq!(code(b""), "BAD_REQUEST");
        assert_eq!(code(b"{"), "BAD_REQUEST");
        assert_eq!(code(b"\xff\xfe"), "BAD_REQUEST");
        assert_eq!(code(b"{\"name\":\"\xff\"}"), "BAD_REQUEST");
        assert_eq!(code(br#"{"name":"\ud800"}"#), "BAD_REQUEST");
        assert_eq!(code(br#"{"name":"a\u0000b"}"#), "BAD_REQUEST");
        assert_eq!(code(br#"{"name":"a"} x"#), "BAD_REQUEST");
        assert_eq!(code(br#"{"name":1}"#), "VALIDATION_FAILED");
        assert_eq!(code(br#"{"name":"a","x":1}"#), "VALIDATION_FAILED");
        assert_eq!(code(b"{}"), "VALIDATION_FAILED");
        assert_eq!(code(b"[]"), "VALIDATION_FAILED");
        assert_eq!(code(b"null"), "VALIDATION_FAILED");
    }

    #[test]
    fn deep_nesting_is_rejected_without_recursion() {
        assert_eq!(code("[".repeat(60_000).as_bytes()), "VALIDATION_FAILED");
        let deep = format!("{{\"name\":{}", "[".repeat(60_000));
        assert_eq!(parse::<serde_json::Value>(deep.as_bytes()).unwrap_err().code().as_str(), "BAD_REQUEST");
    }
}
