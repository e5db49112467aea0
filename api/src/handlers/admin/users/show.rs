//! Shows one account.

use actix_web::{HttpResponse, web};
use nightferry_api_types::account::Account;
use nightferry_core::auth::administration;
use nightferry_core::ids::UserId;

use crate::error_response::Result;
use crate::extract::access::Admin;
use crate::extract::{Caller, Id};
use crate::state::Api;

/// Shows an account.
#[utoipa::path(get, path = "/api/admin/users/{id}", operation_id = "get_user", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The account")),
    responses((status = 200, description = "The account", body = Account)))]
pub(crate) async fn show(_: Caller<Admin>, api: web::Data<Api>, Id(id): Id<UserId>) -> Result<HttpResponse> {
    let user = administration::find(&api.context, id).await?;
    Ok(HttpResponse::Ok().json(Account::from(&user)))
}
