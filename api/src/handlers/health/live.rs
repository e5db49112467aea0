//! Liveness of the process.

use actix_web::HttpResponse;
use nightferry_api_types::health::Live;

use crate::extract::PublicCaller;

/// Returns 200 while the process is alive.
#[utoipa::path(get, path = "/health", operation_id = "get_health", tag = "service",
    responses((status = 200, description = "The process is alive", body = Live)))]
pub(crate) async fn live(_: PublicCaller) -> HttpResponse {
    HttpResponse::Ok().json(Live { status: "ok", version: env!("CARGO_PKG_VERSION") })
}
