//! The service itself: health checks for supervisors and load balancers, metrics, and the OpenAPI document.

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use nightferry_api_types::health::{Live, Ready};

use crate::extract::PublicCall;
use crate::openapi;

/// Returns 200 while the process is alive.
#[utoipa::path(get, path = "/health", operation_id = "get_health", tag = "service",
    responses((status = 200, description = "The process is alive", body = Live)))]
pub(crate) async fn live(_: PublicCall) -> HttpResponse {
    HttpResponse::Ok().json(Live { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Checks the database, every store and the workers.
///
/// 503 if the database or every local store is down. Other stores that are down are reported, but reads and uploads
/// work without them.
#[utoipa::path(get, path = "/health/ready", operation_id = "get_readiness", tag = "service",
    responses(
        (status = 200, description = "Requests can be served", body = Ready),
        (status = 503, description = "Requests cannot be served", body = Ready),
    ))]
pub(crate) async fn ready(call: PublicCall) -> HttpResponse {
    let report = call.probes.report(&call.context).await;
    let mut response =
        if report.is_ready() { HttpResponse::Ok() } else { HttpResponse::ServiceUnavailable() };
    response.json(Ready::from(report.as_ref()))
}

/// Equivalent to `/health/ready`.
#[utoipa::path(get, path = "/api/health", operation_id = "get_api_health", tag = "service",
    responses(
        (status = 200, description = "Requests can be served", body = Ready),
        (status = 503, description = "Requests cannot be served", body = Ready),
    ))]
pub(crate) async fn ready_in_api(call: PublicCall) -> HttpResponse {
    ready(call).await
}

/// Metrics in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "service",
    responses((status = 200, description = "Prometheus text format 0.0.4", content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(call: PublicCall) -> HttpResponse {
    let text = call.metrics.render(&call.context).await;
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}

/// Returns the OpenAPI document.
#[utoipa::path(get, path = "/api/openapi.json", operation_id = "get_openapi", tag = "service",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = serde_json::Value)))]
pub(crate) async fn openapi(_: PublicCall) -> HttpResponse {
    HttpResponse::Ok().json(openapi::document())
}

/// Redirects to the browsable documentation.
pub(crate) async fn to_docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header((LOCATION, "/api/docs/")).finish()
}
