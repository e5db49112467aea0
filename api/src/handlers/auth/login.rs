//! Starts a session.

use actix_web::{HttpRequest, HttpResponse, web};
use nightferry_core::auth::session;

use crate::error_response::Result;
use crate::extract::{Anyone, ClientOrigin, Json};
use crate::state::Api;
use crate::wire::account::{Login, Tokens};
use crate::{cookies, cross_site};

/// Signs in.
///
/// Wrong credentials, an unknown account and a disabled one are deliberately not told apart.
#[utoipa::path(post, path = "/api/auth/login", operation_id = "login", tag = "accounts", request_body = Login,
    responses(
        (status = 200, description = "Signed in", body = Tokens,
            headers(("Set-Cookie" = String, description = "The tokens, when `cookie` was asked for"))),
        (status = 401, description = "`INVALID_CREDENTIALS`"),
        (status = 403, description = "`CSRF_REJECTED`: asks for cookies from somebody else's page"),
    ))]
pub(crate) async fn login(
    _: Anyone,
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
