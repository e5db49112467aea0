//! Whether the process lives.

use actix_web::HttpResponse;

use crate::extract::Anyone;
use crate::wire::health::Live;

/// Answers while the process lives.
#[utoipa::path(get, path = "/health", operation_id = "get_health", tag = "service",
    responses((status = 200, description = "It lives", body = Live)))]
pub(crate) async fn live(_: Anyone) -> HttpResponse {
    HttpResponse::Ok().json(Live { status: "ok", version: env!("CARGO_PKG_VERSION") })
}
