//! The public signing keys.

use actix_web::http::header::{CACHE_CONTROL, HeaderValue};
use actix_web::{HttpResponse, web};
use nightferry_core::auth::keys;

use crate::error_response::Result;
use crate::extract::PublicCaller;
use crate::state::Api;

/// Shorter than the minimum of `auth.signing_key_lead`: clients that cache the key set this long have each key before
/// it is used.
const CACHE: HeaderValue = HeaderValue::from_static("public, max-age=300");

/// The public keys that verify access tokens, as a JWK set (RFC 7517). Empty while the algorithm is HS256.
#[utoipa::path(get, path = "/.well-known/jwks.json", operation_id = "get_jwks", tag = "accounts",
    responses((status = 200, description = "The keys", content_type = "application/json", body = serde_json::Value)))]
pub(crate) async fn jwks(_: PublicCaller, api: web::Data<Api>) -> Result<HttpResponse> {
    let keys = keys::public(&api.accounts).await?;
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, CACHE)).json(keys))
}
