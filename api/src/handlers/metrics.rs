//! Prometheus metrics.

use actix_web::{HttpResponse, web};

use crate::extract::PublicCaller;
use crate::state::Api;

/// Metrics in Prometheus's text format.
#[utoipa::path(get, path = "/metrics", operation_id = "get_metrics", tag = "service",
    responses((status = 200, description = "Prometheus text format 0.0.4", content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(_: PublicCaller, api: web::Data<Api>) -> HttpResponse {
    let text = api.metrics.render(&api.context).await;
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(text)
}
