//! Changes the caller's password.

use actix_web::{HttpResponse, web};
use nightferry_api_types::account::ChangePassword;
use nightferry_core::auth::account;

use crate::error_response::Result;
use crate::extract::access::Session;
use crate::extract::{Caller, ClientOrigin, Json};
use crate::state::Api;

/// Changes the caller's password. All other sessions of the account end.
#[utoipa::path(post, path = "/api/auth/password", operation_id = "change_password", tag = "accounts",
    request_body = ChangePassword,
    responses(
        (status = 204, description = "The password was changed"),
        (status = 401, description = "`INVALID_CREDENTIALS`: not the current password; otherwise \
            `UNAUTHENTICATED`, `TOKEN_EXPIRED`, `TOKEN_REVOKED`"),
        (status = 409, description = "`CONFLICT`: changed concurrently"),
    ))]
pub(crate) async fn change(
    caller: Caller<Session>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    Json(body): Json<ChangePassword>,
) -> Result<HttpResponse> {
    let keep = caller.session()?.sid;
    account::change_password(
        &api.accounts,
        &caller.user,
        keep,
        body.current_password,
        body.new_password,
        &origin.0,
    )
    .await?;
    Ok(HttpResponse::NoContent().finish())
}
