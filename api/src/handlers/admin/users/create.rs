//! Creates an account.

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use nightferry_api_types::account::{Account, CreateAccount};
use nightferry_core::auth::account;

use crate::error_response::Result;
use crate::extract::access::AdminSession;
use crate::extract::{Caller, ClientOrigin, Json};
use crate::state::Api;

/// Creates an account, even if sign-up is disabled.
#[utoipa::path(post, path = "/api/admin/users", operation_id = "create_user", tag = "administration", request_body = CreateAccount,
    responses(
        (status = 201, description = "The account was created", body = Account,
            headers(("Location" = String, description = "Its address"))),
        (status = 409, description = "`EMAIL_TAKEN`"),
    ))]
pub(crate) async fn create(
    admin: Caller<AdminSession>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    Json(body): Json<CreateAccount>,
) -> Result<HttpResponse> {
    let (new, quota) = body.split();
    let actor = Some(admin.user.id);
    let user = account::create_with_quota(&api.accounts, new, quota, actor, &origin.0).await?;
    let location = format!("/api/admin/users/{}", user.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(Account::from(&user)))
}
