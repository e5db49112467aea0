//! Headers that keep browsers from doing more with an answer than they should. What a handler set stays.

use actix_web::dev::ServiceResponse;
use actix_web::http::header::{
    self, CACHE_CONTROL, HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

const HEADERS: [(HeaderName, &str); 4] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "SAMEORIGIN"),
    (REFERRER_POLICY, "no-referrer"),
    // Answers are somebody's own, unless a handler knows better.
    (CACHE_CONTROL, "no-store"),
];

/// Adds them.
pub(super) fn put<B>(response: &mut ServiceResponse<B>) {
    let headers: &mut header::HeaderMap = response.headers_mut();
    for (name, value) in HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}
