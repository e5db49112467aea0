//! Cross-origin resource sharing (CORS). Credentials are allowed only for origins that are listed explicitly.

use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::header::{self, HeaderName};
use actix_web::middleware::Condition;
use nightferry_core::config::CorsConfig;

const METHODS: [Method; 6] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The additional response headers that scripts may read.
const EXPOSED: [HeaderName; 10] = [
    header::ACCEPT_RANGES,
    header::CONTENT_DISPOSITION,
    header::CONTENT_RANGE,
    header::ETAG,
    header::LOCATION,
    header::RETRY_AFTER,
    HeaderName::from_static("ratelimit"),
    HeaderName::from_static("ratelimit-policy"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("nightferry-file-id"),
];

/// The configured middleware; `None` if no other origin is allowed.
pub(crate) fn cors(config: &CorsConfig) -> Condition<Cors> {
    let max_age = usize::try_from(config.max_age.as_secs()).unwrap_or(usize::MAX);
    let cors = Cors::default()
        .allowed_methods(METHODS)
        .allow_any_header()
        .expose_headers(EXPOSED)
        .max_age(max_age)
        .block_on_origin_mismatch(false);
    let cors = if config.allowed_origins == ["*"] {
        cors.allow_any_origin().send_wildcard()
    } else {
        let named = |cors: Cors, origin: &String| cors.allowed_origin(origin);
        config.allowed_origins.iter().fold(cors, named).supports_credentials()
    };
    Condition::new(!config.allowed_origins.is_empty(), cors)
}
