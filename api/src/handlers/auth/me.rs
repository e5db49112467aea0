//! The caller's own account.

use actix_web::{HttpResponse, web};
use nightferry_api_types::account::{ChangeMe, Me};
use nightferry_core::auth::account;

use crate::error_response::Result;
use crate::extract::access::{Session, SignedIn};
use crate::extract::{Caller, Json};
use crate::state::Api;

/// Shows the caller's own account.
#[utoipa::path(get, path = "/api/auth/me", operation_id = "get_me", tag = "accounts",
    responses((status = 200, description = "The account", body = Me)))]
pub(crate) async fn show(caller: Caller<SignedIn>) -> HttpResponse {
    HttpResponse::Ok().json(Me::from(&caller.user))
}

/// Changes the caller's own account.
#[utoipa::path(patch, path = "/api/auth/me", operation_id = "change_me", tag = "accounts", request_body = ChangeMe,
    responses((status = 200, description = "The new state of the account", body = Me)))]
pub(crate) async fn change(
    caller: Caller<Session>,
    api: web::Data<Api>,
    Json(body): Json<ChangeMe>,
) -> Result<HttpResponse> {
    let user = match body.name {
        Some(name) => account::rename(&api.context, caller.user.id, &name).await?,
        None => caller.into_inner().user,
    };
    Ok(HttpResponse::Ok().json(Me::from(&user)))
}
