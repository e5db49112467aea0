//! The access log: one line per request. Without the query string, which may contain names and tokens.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::Method;

/// Requests of monitoring systems, logged at a lower level.
const MONITORING_PATHS: [&str; 4] = ["/health", "/health/ready", "/api/health", "/metrics"];

/// The request data for the log line.
pub(super) struct Line {
    method: Method,
    path: String,
    ip: Option<IpAddr>,
}

impl Line {
    /// Captures the request data.
    pub(super) fn begin(request: &ServiceRequest, ip: Option<IpAddr>) -> Self {
        Self { method: request.method().clone(), path: request.path().to_owned(), ip }
    }

    /// The request's method.
    pub(super) fn method(&self) -> &Method {
        &self.method
    }

    /// Writes the log line. `took` ends when the response body starts. The id comes from the span.
    pub(super) fn end<B>(self, route: &str, response: &ServiceResponse<B>, took: Duration) {
        let Self { method, path, ip } = self;
        let status = response.status().as_u16();
        let ip = ip.map(tracing::field::display);
        let millis = took.as_secs_f64() * 1000.0;
        if MONITORING_PATHS.contains(&route) {
            tracing::debug!(%method, path, status, millis, ip, "request");
        } else {
            tracing::info!(%method, path, status, millis, ip, "request");
        }
    }
}
