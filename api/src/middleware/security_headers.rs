//! Headers that keep browsers from doing more with an answer than they should. What a handler set stays.

use actix_web::dev::ServiceResponse;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, HeaderValue, REFERRER_POLICY,
    STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

const HEADERS: [(HeaderName, &str); 7] = [
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (X_FRAME_OPTIONS, "SAMEORIGIN"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    // An answer of the API that a browser is led to show can do nothing.
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'self'; sandbox"),
    // Answers are somebody's own, unless a handler knows better.
    (CACHE_CONTROL, "no-store"),
];

/// The page of the documentation brings its own scripts and styles, some of them in the page.
const OF_DOCS: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                       connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";
const DOCS: &str = "/api/docs/";

/// A year. Only said over TLS: elsewhere browsers ignore it (RFC 6797 section 7.2).
const TLS_ONLY: &str = "max-age=31536000";

/// Adds them. `https`: a proxy of ours says that the client came over TLS.
pub(super) fn put<B>(response: &mut ServiceResponse<B>, https: bool) {
    let in_docs = response.request().path().starts_with(DOCS);
    let headers = response.headers_mut();
    if in_docs && !headers.contains_key(CONTENT_SECURITY_POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(OF_DOCS));
    }
    for (name, value) in HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if https {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(TLS_ONLY));
    }
}
