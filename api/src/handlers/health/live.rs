//! Whether the process lives.

use actix_web::HttpResponse;
use nightferry_api_types::health::Live;

use crate::extract::Anyone;

/// Answers while the process lives.
#[utoipa::path(get, path = "/health", operation_id = "get_health", tag = "service",
    responses((status = 200, description = "It lives", body = Live)))]
pub(crate) async fn live(_: Anyone) -> HttpResponse {
    HttpResponse::Ok().json(Live { status: "ok", version: env!("CARGO_PKG_VERSION") })
}
