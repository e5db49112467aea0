//! Refreshes a session.

use actix_web::{HttpRequest, HttpResponse, web};
use nightferry_api_types::account::{Refresh, Tokens};
use nightferry_core::auth::session;
use secrecy::SecretString;

use crate::error_response::{ApiError, Result};
use crate::extract::{ClientOrigin, OptionalJson, PublicCaller};
use crate::state::Api;
use crate::{cookies, cross_site};

/// Exchanges a refresh token for new tokens. The old one becomes invalid.
#[utoipa::path(post, path = "/api/auth/refresh", operation_id = "refresh", tag = "accounts", request_body = Option<Refresh>,
    responses(
        (status = 200, description = "New tokens of the same session", body = Tokens),
        (status = 401, description = "`UNAUTHENTICATED`: unknown token; `TOKEN_EXPIRED`; `TOKEN_REVOKED`; \
            `REFRESH_REUSED`: used before, so the whole session was ended"),
        (status = 403, description = "`CSRF_REJECTED`: with the cookie, but from another site"),
    ))]
pub(crate) async fn refresh(
    _: PublicCaller,
    api: web::Data<Api>,
    origin: ClientOrigin,
    request: HttpRequest,
    OptionalJson(body): OptionalJson<Refresh>,
) -> Result<HttpResponse> {
    if let Some(token) = body.refresh_token {
        let session = session::refresh(&api.accounts, &token, &origin.0).await?;
        return Ok(HttpResponse::Ok().json(Tokens::from(&session)));
    }
    let auth = &api.context.config.auth;
    let Some(token) = cookies::read(&request, auth, cookies::Name::Refresh) else {
        return Err(ApiError::field("refresh_token", "must be given, in the body or as a cookie"));
    };
    cross_site::check(&request, &api)?;
    let session = session::refresh(&api.accounts, &SecretString::from(token), &origin.0).await?;
    // A rejection does not change the cookies: if two tabs race, the cookies of the winner are the new ones.
    let mut response = HttpResponse::Ok().json(Tokens::in_cookies(&session));
    cookies::set(&mut response, auth, &session)?;
    Ok(response)
}
