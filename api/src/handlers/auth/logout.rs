//! Ends a session.

use actix_web::{HttpResponse, web};
use nightferry_core::auth::session;

use crate::error_response::Result;
use crate::extract::{Caller, ClientOrigin};
use crate::state::Api;

/// Ends the caller's session: its access token and its refresh tokens are refused from now on.
#[utoipa::path(post, path = "/api/auth/logout", operation_id = "logout", tag = "accounts",
    responses((status = 204, description = "Signed out")))]
pub(crate) async fn logout(
    api: web::Data<Api>,
    caller: Caller,
    origin: ClientOrigin,
) -> Result<HttpResponse> {
    session::logout(&api.context, &caller, &origin.0).await?;
    Ok(HttpResponse::NoContent().finish())
}
