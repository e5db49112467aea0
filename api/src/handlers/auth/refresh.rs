//! Continues a session.

use actix_web::{HttpResponse, web};
use nightferry_core::auth::session;

use crate::error_response::Result;
use crate::extract::{ClientOrigin, Json};
use crate::state::Api;
use crate::wire::account::{Refresh, Tokens};

/// Exchanges a refresh token for new tokens. The old one dies.
#[utoipa::path(post, path = "/api/auth/refresh", operation_id = "refresh", tag = "accounts", security(()), request_body = Refresh,
    responses(
        (status = 200, description = "New tokens of the same session", body = Tokens),
        (status = 401, description = "`UNAUTHENTICATED`: never issued; `TOKEN_EXPIRED`; `TOKEN_REVOKED`; `REFRESH_REUSED`: \
            used before, so the whole session was ended"),
    ))]
pub(crate) async fn refresh(
    api: web::Data<Api>,
    origin: ClientOrigin,
    Json(body): Json<Refresh>,
) -> Result<HttpResponse> {
    let session = session::refresh(&api.context, &body.refresh_token, &origin.0).await?;
    Ok(HttpResponse::Ok().json(Tokens::from(session)))
}
