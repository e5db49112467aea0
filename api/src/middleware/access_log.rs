//! One log line for each request. Without the query, which may hold names and tokens.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;

/// Requests of monitors, too many to be told at the usual level.
const QUIET: [&str; 4] = ["/health", "/health/ready", "/api/health", "/metrics"];

/// What of a request is told once its answer is known.
pub(super) struct Line {
    method: Method,
    path: String,
    ip: Option<IpAddr>,
}

impl Line {
    /// Remembers the request.
    pub(super) fn begin(request: &ServiceRequest, ip: Option<IpAddr>) -> Self {
        Self { method: request.method().clone(), path: request.path().to_owned(), ip }
    }

    /// The request's method.
    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// Writes the line. `took` ends where the answer's body begins. The id comes from the span.
    pub(super) fn end<B>(self, route: &str, response: &ServiceResponse<B>, took: Duration) {
        let Self { method, path, ip } = self;
        let status = response.status().as_u16();
        let ip = ip.map(tracing::field::display);
        let millis = took.as_secs_f64() * 1000.0;
        if QUIET.contains(&route) {
            tracing::debug!(%method, path, status, millis, ip, "request");
        } else {
            tracing::info!(%method, path, status, millis, ip, "request");
        }
    }
}
