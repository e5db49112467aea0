//! Security headers. Headers set by a handler are kept.

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
    // A response of the API that is displayed by a browser can load and run nothing.
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'self'; sandbox"),
    // Responses are private unless the handler states otherwise.
    (CACHE_CONTROL, "no-store"),
];

/// The documentation page uses its own scripts and styles, some of them inline.
const DOCS_CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                       connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'";
const DOCS: &str = "/api/docs/";

/// One year. Sent only over TLS: otherwise browsers ignore it (RFC 6797 section 7.2).
const HSTS: &str = "max-age=31536000";

/// Adds the headers. `https`: a trusted proxy states that the client used TLS.
pub(super) fn put<B>(response: &mut ServiceResponse<B>, https: bool) {
    let in_docs = response.request().path().starts_with(DOCS);
    let headers = response.headers_mut();
    if in_docs && !headers.contains_key(CONTENT_SECURITY_POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(DOCS_CSP));
    }
    for (name, value) in HEADERS {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
    if https {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(HSTS));
    }
}
