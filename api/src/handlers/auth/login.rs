//! Starts a session.

use actix_web::{HttpRequest, HttpResponse, web};
use nightferry_api_types::account::{Login, Tokens};
use nightferry_core::auth::session;

use crate::error_response::Result;
use crate::extract::{ClientOrigin, Json, PublicCaller};
use crate::state::Api;
use crate::{cookies, cross_site};

/// Signs in.
///
/// Wrong credentials, an unknown account and a disabled one are deliberately indistinguishable.
#[utoipa::path(post, path = "/api/auth/login", operation_id = "login", tag = "accounts", request_body = Login,
    responses(
        (status = 200, description = "Signed in", body = Tokens,
            headers(("Set-Cookie" = String, description = "The tokens, if `cookie` was requested"))),
        (status = 401, description = "`INVALID_CREDENTIALS`"),
        (status = 403, description = "`CSRF_REJECTED`: requests cookies from another site"),
    ))]
pub(crate) async fn login(
    _: PublicCaller,
    api: web::Data<Api>,
    origin: ClientOrigin,
    request: HttpRequest,
    Json(body): Json<Login>,
) -> Result<HttpResponse> {
    if body.cookie {
        cross_site::refuse_foreign(&request, &api)?;
    }
    let session = session::login(&api.accounts, &body.email, body.password, &origin.0).await?;
    if !body.cookie {
        return Ok(HttpResponse::Ok().json(Tokens::from(&session)));
    }
    let mut response = HttpResponse::Ok().json(Tokens::in_cookies(&session));
    cookies::set(&mut response, &api.context.config.auth, &session)?;
    Ok(response)
}
