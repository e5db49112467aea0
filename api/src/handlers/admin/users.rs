//! Administration of accounts.

use actix_web::HttpResponse;
use actix_web::http::header::LOCATION;
use nightferry_api_types::account::{Account, AccountPage, AccountQuery, ChangeAccount, CreateAccount};
use nightferry_core::auth::{account, administration};
use nightferry_core::db::enums::UserRole;
use nightferry_core::db::users::UserFilter;
use nightferry_core::ids::UserId;

use crate::cursor;
use crate::error_response::Result;
use crate::extract::access::{Admin, AdminSession};
use crate::extract::{Call, Id, Json, Query, choice};

/// Lists accounts in the order of their creation.
#[utoipa::path(get, path = "/api/admin/users", operation_id = "list_users", tag = "administration", params(AccountQuery),
    responses((status = 200, description = "A page", body = AccountPage)))]
pub(crate) async fn list(call: Call<Admin>, Query(query): Query<AccountQuery>) -> Result<HttpResponse> {
    let (limit, after) = cursor::page("user", query.limit.as_deref(), query.cursor.as_deref())?;
    let roles = [("user", UserRole::User), ("admin", UserRole::Admin)];
    let filter = UserFilter {
        role: choice("role", query.role.as_deref(), &roles)?,
        disabled: choice("disabled", query.disabled.as_deref(), &[("true", true), ("false", false)])?,
        text: query.q,
        after,
    };
    let (users, more) = administration::list(&call.context, &filter, limit).await?;
    let next_cursor = cursor::next(&users, more, |last| cursor::at("user", last.id))?;
    Ok(HttpResponse::Ok().json(AccountPage { users: users.iter().map(Account::from).collect(), next_cursor }))
}

/// Shows an account.
#[utoipa::path(get, path = "/api/admin/users/{id}", operation_id = "get_user", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The account")),
    responses((status = 200, description = "The account", body = Account)))]
pub(crate) async fn show(call: Call<Admin>, Id(id): Id<UserId>) -> Result<HttpResponse> {
    let user = administration::find(&call.context, id).await?;
    Ok(HttpResponse::Ok().json(Account::from(&user)))
}

/// Creates an account, even if sign-up is disabled.
#[utoipa::path(post, path = "/api/admin/users", operation_id = "create_user", tag = "administration", request_body = CreateAccount,
    responses(
        (status = 201, description = "The account was created", body = Account,
            headers(("Location" = String, description = "Its address"))),
        (status = 409, description = "`EMAIL_TAKEN`"),
    ))]
pub(crate) async fn create(
    call: Call<AdminSession>,
    Json(body): Json<CreateAccount>,
) -> Result<HttpResponse> {
    let (new, quota) = body.split();
    let actor = Some(call.actor());
    let user = account::create_with_quota(&call.accounts, new, quota, actor, &call.origin()).await?;
    let location = format!("/api/admin/users/{}", user.id);
    Ok(HttpResponse::Created().insert_header((LOCATION, location)).json(Account::from(&user)))
}

/// Changes the role of an account, disables or enables it, sets or clears its quota.
#[utoipa::path(patch, path = "/api/admin/users/{id}", operation_id = "change_user", tag = "administration",
    params(("id" = uuid::Uuid, Path, description = "The account")), request_body = ChangeAccount,
    responses(
        (status = 200, description = "The new state of the account", body = Account),
        (status = 409, description = "`CONFLICT`: no active administrator would remain"),
    ))]
pub(crate) async fn change(
    call: Call<AdminSession>,
    Id(id): Id<UserId>,
    Json(body): Json<ChangeAccount>,
) -> Result<HttpResponse> {
    let actor = Some(call.actor());
    let user = administration::change(&call.context, id, body.into(), actor, &call.origin()).await?;
    Ok(HttpResponse::Ok().json(Account::from(&user)))
}
