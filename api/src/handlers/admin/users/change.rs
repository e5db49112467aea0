//! Changes the role, state and quota of an account.

use actix_web::{HttpResponse, web};
use nightferry_api_types::account::{Account, ChangeAccount};
use nightferry_core::auth::administration;
use nightferry_core::ids::UserId;

use crate::error_response::Result;
use crate::extract::access::AdminSession;
use crate::extract::{Caller, ClientOrigin, Id, Json};
use crate::state::Api;

/// Changes the role of an account, disables or enables it, sets or clears its quota.
#[utoipa::path(patch, path = "/api/admin/users/{id}", operation_id = "change_user", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The account")), request_body = ChangeAccount,
    responses(
        (status = 200, description = "The new state of the account", body = Account),
        (status = 409, description = "`CONFLICT`: no active administrator would remain"),
    ))]
pub(crate) async fn change(
    admin: Caller<AdminSession>,
    api: web::Data<Api>,
    origin: ClientOrigin,
    Id(id): Id<UserId>,
    Json(body): Json<ChangeAccount>,
) -> Result<HttpResponse> {
    let actor = Some(admin.user.id);
    let user = administration::change(&api.context, id, body.into(), actor, &origin.0).await?;
    Ok(HttpResponse::Ok().json(Account::from(&user)))
}
