//! The request id: that of the client if it is valid, otherwise a new one. It links response, log and problem document.

use std::fmt;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use uuid::Uuid;

const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Maximum length of a client's id, in characters.
const MAX_LENGTH: usize = 64;

/// Visible ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestId(String);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(super) fn of(request: &ServiceRequest) -> RequestId {
    let given = request.headers().get(HEADER).and_then(|value| value.to_str().ok());
    RequestId(given.filter(|text| is_sane(text)).map_or_else(|| Uuid::now_v7().to_string(), str::to_owned))
}

pub(super) fn put<B>(response: &mut ServiceResponse<B>, id: &RequestId) {
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        response.headers_mut().insert(HEADER, value);
    }
}

fn is_sane(text: &str) -> bool {
    (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_of_clients_are_short_visible_ascii() {
        assert!(is_sane("abc-123") && is_sane(&"x".repeat(64)));
        for wrong in ["", "a b", "a\tb", "ä", &"x".repeat(65)] {
            assert!(!is_sane(wrong), "{wrong:?}");
        }
    }
}
