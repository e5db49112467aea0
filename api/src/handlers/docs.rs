//! The OpenAPI document, and the redirect to its browsable form.

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;

use crate::extract::PublicCaller;
use crate::openapi;

/// Returns the OpenAPI document.
#[utoipa::path(get, path = "/api/openapi.json", operation_id = "get_openapi", tag = "service",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = serde_json::Value)))]
pub(crate) async fn openapi(_: PublicCaller) -> HttpResponse {
    HttpResponse::Ok().json(openapi::document())
}

/// Redirects to the browsable documentation.
pub(crate) async fn to_docs() -> HttpResponse {
    HttpResponse::TemporaryRedirect().insert_header((LOCATION, "/api/docs/")).finish()
}
