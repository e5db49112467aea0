//! Protection against cross-site request forgery: detects requests that another site makes a signed-in browser send.
//! Only requests authenticated by cookie are checked; other requests cannot be forged in this way.
//!
//! Browsers state the origin of a request in headers that pages cannot set: `Sec-Fetch-Site` (Fetch Metadata), and
//! `Origin` (RFC 6454), which every browser sends with requests that may change state. A request without both does not
//! come from a supported browser, and is rejected if it may change state.

use actix_web::HttpRequest;
use actix_web::http::Method;
use actix_web::http::header::{HOST, HeaderName, ORIGIN};
use actix_web::http::uri::Authority;

use crate::error_response::{ApiError, Result};
use crate::state::Api;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The source of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// The service itself, a configured origin, or the user directly.
    Own,
    /// Another site.
    Foreign,
    /// The client does not state it.
    Unknown,
}

/// Rejects requests that may change state and do not come from the service's own pages. For requests that are
/// authenticated by cookie.
pub(crate) fn check(request: &HttpRequest, api: &Api) -> Result<()> {
    let is_safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if is_safe || source(request, api) == Source::Own { Ok(()) } else { Err(ApiError::CrossSite) }
}

/// Rejects requests from other sites. For sign-ins, which do not need a cookie but set one.
pub(crate) fn refuse_foreign(request: &HttpRequest, api: &Api) -> Result<()> {
    if source(request, api) == Source::Foreign { Err(ApiError::CrossSite) } else { Ok(()) }
}

fn source(request: &HttpRequest, api: &Api) -> Source {
    let header = |name| request.headers().get(name).map(|value| value.to_str().unwrap_or("?"));
    let own: Vec<&str> = api.origins.iter().map(String::as_str).collect();
    let host = header(HOST).or_else(|| request.uri().authority().map(Authority::as_str));
    judge(header(SEC_FETCH_SITE), header(ORIGIN), host, &own)
}

fn judge(site: Option<&str>, origin: Option<&str>, host: Option<&str>, own: &[&str]) -> Source {
    let is_named = origin.is_some_and(|origin| own.iter().any(|own| own.eq_ignore_ascii_case(origin)));
    let is_this_host =
        origin.and_then(authority).zip(host).is_some_and(|(origin, host)| origin.eq_ignore_ascii_case(host));
    match (site, origin) {
        // "none": entered or selected by the user.
        (Some("same-origin" | "none"), _) => Source::Own,
        (_, Some(_)) if is_named => Source::Own,
        (None, Some(_)) if is_this_host => Source::Own,
        (None, None) => Source::Unknown,
        _ => Source::Foreign,
    }
}

/// Host and port of an origin.
fn authority(origin: &str) -> Option<&str> {
    origin.strip_prefix("https://").or_else(|| origin.strip_prefix("http://"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_of_a_request_is_read_from_headers_that_pages_cannot_set() {
        let own = ["https://files.example.org", "https://app.example.net"];
        let judge = |site, origin| judge(site, origin, Some("127.0.0.1:8080"), &own);
        for (site, origin, wanted) in [
            (Some("same-origin"), None, Source::Own),
            (Some("none"), None, Source::Own),
            (Some("cross-site"), None, Source::Foreign),
            (Some("same-site"), None, Source::Foreign),
            (Some("nonsense"), None, Source::Foreign),
            // A page on another host that is listed in the configuration.
            (Some("cross-site"), Some("https://app.example.net"), Source::Own),
            (Some("same-site"), Some("https://APP.example.net"), Source::Own),
            (Some("cross-site"), Some("https://evil.example"), Source::Foreign),
            // A matching host name is not sufficient if the browser states otherwise.
            (Some("cross-site"), Some("http://127.0.0.1:8080"), Source::Foreign),
            (None, Some("https://files.example.org"), Source::Own),
            (None, Some("http://127.0.0.1:8080"), Source::Own),
            (None, Some("http://127.0.0.1:8081"), Source::Foreign),
            (None, Some("https://files.example.org.evil.example"), Source::Foreign),
            (None, Some("http://files.example.org"), Source::Foreign),
            (None, Some("null"), Source::Foreign),
            (None, Some(""), Source::Foreign),
            (None, None, Source::Unknown),
        ] {
            assert_eq!(judge(site, origin), wanted, "{site:?} {origin:?}");
        }
    }
}
