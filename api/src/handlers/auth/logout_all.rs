//! Ends all sessions.

use actix_web::{HttpRequest, HttpResponse, web};
use nightferry_core::auth::session_list;

use crate::cookies;
use crate::error_response::Result;
use crate::extract::access::Session;
use crate::extract::{Caller, ClientOrigin};
use crate::state::Api;

/// Ends all sessions of the caller, including this one. Their tokens are rejected from now on; personal access tokens
/// remain valid.
#[utoipa::path(post, path = "/api/auth/logout-all", operation_id = "logout_all", tag = "accounts",
    responses((status = 204, description = "Signed out everywhere")))]
pub(crate) async fn logout_all(
    caller: Caller<Session>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    request: HttpRequest,
) -> Result<HttpResponse> {
    let user = caller.user.id;
    session_list::end_all(&api.context, user, false, Some(user), &origin.0).await?;
    let mut response = HttpResponse::NoContent().finish();
    cookies::clear(&request, &mut response, &api.context.config.auth)?;
    Ok(response)
}
