//! Starts a session.

use actix_web::{HttpResponse, web};
use nightferry_core::auth::session;

use crate::error_response::{ApiError, Result};
use crate::extract::{ClientOrigin, Json};
use crate::state::Api;
use crate::wire::account::{Login, Tokens};

/// Signs in.
///
/// Wrong credentials, an unknown account and a disabled one are deliberately not told apart.
#[utoipa::path(post, path = "/api/auth/login", operation_id = "login", tag = "accounts", security(()), request_body = Login,
    responses(
        (status = 200, description = "Signed in", body = Tokens),
        (status = 401, description = "`INVALID_CREDENTIALS`"),
    ))]
pub(crate) async fn login(
    api: web::Data<Api>,
    origin: ClientOrigin,
    Json(body): Json<Login>,
) -> Result<HttpResponse> {
    if body.cookie {
        return Err(ApiError::field("cookie", "is not available yet; leave it out and use the tokens"));
    }
    let session = session::login(&api.context, &body.email, body.password, &origin.0).await?;
    Ok(HttpResponse::Ok().json(Tokens::from(session)))
}
