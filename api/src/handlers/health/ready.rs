//! Readiness of the service.

use actix_web::{HttpResponse, web};
use nightferry_api_types::health::Ready;

use crate::extract::PublicCaller;
use crate::state::Api;

/// Checks the database, every store and the workers.
///
/// 503 if the database or every local store is down. Other stores that are down are reported, but reads and uploads
/// work without them.
#[utoipa::path(get, path = "/health/ready", operation_id = "get_readiness", tag = "service",
    responses(
        (status = 200, description = "Requests can be served", body = Ready),
        (status = 503, description = "Requests cannot be served", body = Ready),
    ))]
pub(crate) async fn ready(_: PublicCaller, api: web::Data<Api>) -> HttpResponse {
    let report = api.probes.report(&api.context).await;
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
pub(crate) async fn ready_in_api(_: PublicCaller, api: web::Data<Api>) -> HttpResponse {
    ready(PublicCaller, api).await
}
