//! Ends a session.

use actix_web::{HttpRequest, HttpResponse, web};
use nightferry_core::auth::session;

use crate::cookies;
use crate::error_response::Result;
use crate::extract::access::Session;
use crate::extract::{Caller, ClientOrigin};
use crate::state::Api;

/// Ends the caller's session: its access token and its refresh tokens are rejected from now on.
#[utoipa::path(post, path = "/api/auth/logout", operation_id = "logout", tag = "accounts",
    responses((status = 204, description = "Signed out")))]
pub(crate) async fn logout(
    caller: Caller<Session>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    request: HttpRequest,
) -> Result<HttpResponse> {
    session::logout(&api.context, caller.session()?, &origin.0).await?;
    let mut response = HttpResponse::NoContent().finish();
    cookies::clear(&request, &mut response, &api.context.config.auth)?;
    Ok(response)
}
