//! The access log: one line per request. Without the query string, which may contain names and tokens.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::dev::ServiceResponse;

use crate::limits::MONITORING_PATHS;

/// Writes the log line. `took` ends when the response body starts. The id comes from the span.
pub(super) fn write<B>(ip: Option<IpAddr>, route: &str, response: &ServiceResponse<B>, took: Duration) {
    let (method, path) = (response.request().method(), response.request().path());
    let status = response.status().as_u16();
    let ip = ip.map(tracing::field::display);
    let millis = took.as_secs_f64() * 1000.0;
    if MONITORING_PATHS.contains(&route) {
        tracing::debug!(%method, path, status, millis, ip, "request");
    } else {
        tracing::info!(%method, path, status, millis, ip, "request");
    }
}
